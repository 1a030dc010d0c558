"""Every example runs at toy size, and says what it promises."""

import dataclasses
import functools
import importlib.util
from pathlib import Path

import pytest

import drl_density as drl
from drl_density import (
    AdjustedObjective,
    CooperativeObjective,
    FitSettings,
    LogSpacedSchedule,
    ResidualNetwork,
    TrainingSettings,
)
from drl_density.inverse_problems import ConditionalSettings
from drl_density.partition_function.mode_search import search
from drl_density.testing import assert_z

EXAMPLES = Path(__file__).parent.parent / "examples"
PAGES = Path(__file__).parent.parent / "docs" / "examples"
TINY_IMAGES = FitSettings(
    objective=AdjustedObjective(num_chain_steps=1),
    network=ResidualNetwork((1, 8, 8), num_channels=4, multipliers=(1,)),
    schedule=LogSpacedSchedule(num_levels=2),
    transform="logit",
    base="gaussian",
    num_particles=4,
    num_pool_draws=2,
    num_validation_rows=16,
    selection="last",
    training=TrainingSettings(num_steps=2, evaluate_every=2, batch_size=8),
)
TINY_COOPERATIVE = dataclasses.replace(
    TINY_IMAGES,
    objective=CooperativeObjective(num_chain_steps=1, kernel="ula", initializer_channels=4, initializer_blocks=1),
    transform="rescale",
)
TINY_CONDITIONAL = ConditionalSettings(num_particles=4, steps_per_level=1, num_transitions=1, num_final_steps=8)


HAS_SANDWICH = ("06_product_of_experts", "09_evidence_of_a_pyro_model")


QUICK = {
    "num_particles": 16,
    "num_replicates": 2,
    "num_transitions": 1,
    "num_mixing_steps": 3,
    "most_rounds": 4,
    "most_batches": 1,
    "conditional_ess": 0.7,
    "num_swept": 0,
}


def plain(tiny):
    """With the base and the transform that are fitted fastest and two training steps; ``tiny`` itself, with those chosen by
    validation, is fitted for the tests of a density."""
    training = TrainingSettings(num_steps=2, batch_size=32, evaluate_every=2)
    return dataclasses.replace(
        tiny, base="gaussian", transform="standardize", selection="last", num_particles=16, training=training
    )


DOUBLE_WELL = "02_log_z_of_your_own_density"  # runs in a test of its own, at full size
ARGUMENTS = {
    "01_fit_and_sample": lambda tiny: {
        "num_rows": 400,
        "settings": plain(tiny),
        "max_minutes": None,
        "num_particles": 16,
    },
    "03_long_chains_in_arviz": lambda tiny: {
        "num_steps": 100,
        "num_chains": 8,
        "settings": plain(tiny),
        "max_minutes": None,
    },
    "04_imputation": lambda tiny: {"num_imputations": 3, "settings": plain(tiny), "max_minutes": None},
    "05_a_learned_prior": lambda tiny: {"num_draws": 6, "settings": plain(tiny), "max_minutes": None},
    "06_product_of_experts": lambda tiny: {"num_draws": 6, "settings": plain(tiny), "max_minutes": None},
    "07_outliers": lambda tiny: {"settings": plain(tiny), "max_minutes": None},
    "09_evidence_of_a_pyro_model": lambda tiny: {"num_rows": 8, "num_particles": 16},
    "08_undersampled_images": lambda tiny: {"size": 8, "num_draws": 8, "num_train": 400, "num_steps": 10},
    "10_few_step_draws": lambda tiny: {"num_updates": 3, "num_steps": 10, "settings": plain(tiny), "max_minutes": None},
    "11_progressive_grid": lambda tiny: {"num_pictures": 2, "settings": TINY_IMAGES, "max_minutes": None},
    "12_inpainting": lambda tiny: {
        "num_digits": 1,
        "num_completions": 2,
        "settings": TINY_IMAGES,
        "max_minutes": None,
        "conditional": TINY_CONDITIONAL,
    },
    "13_interpolation": lambda tiny: {"num_places": 3, "num_steps": 2, "settings": TINY_IMAGES, "max_minutes": None},
    "14_long_image_chains": lambda tiny: {
        "num_steps": 100,
        "num_chains": 8,
        "settings": TINY_IMAGES,
        "max_minutes": None,
    },
    "15_log_z_by_level": lambda tiny: {
        "num_rows": 20,
        "num_particles": 4,
        "settings": TINY_IMAGES,
        "max_minutes": None,
    },
    "16_levels_and_chain_steps": lambda tiny: {
        "levels": (1, 3),
        "steps": (2,),
        "num_training_steps": 2,
        "settings": plain(tiny),
    },
    "17_ddim": lambda tiny: {"num_rows": 400, "num_draws": 20, "settings": plain(tiny), "max_minutes": None},
    "18_diffusion_sampler": lambda tiny: {"num_steps": 4, "num_updates": 3, "num_walks": 20},
    "19_frequency_averages": lambda tiny: {"num_draws": 4, "settings": TINY_IMAGES, "max_minutes": None},
    "20_em_distillation": lambda tiny: {
        "num_updates": 3,
        "num_warm_updates": 3,
        "num_draws": 50,
        "settings": plain(tiny),
        "max_minutes": None,
    },
    "21_ambient_posterior_sampling": lambda tiny: {"num_digits": 1, "num_draws": 4, "num_updates": 5, "num_steps": 5},
    "22_deblurring": lambda tiny: {
        "num_digits": 1,
        "num_draws": 8,
        "num_steps": 4,
        "settings": TINY_IMAGES,
        "max_minutes": None,
    },
    "23_cooperative": lambda tiny: {"num_pictures": 2, "settings": TINY_COOPERATIVE, "max_minutes": None},
    "24_conditioning": lambda tiny: {"num_rows": 400, "num_draws": 20, "settings": plain(tiny), "max_minutes": None},
}


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fits(short_paths):
    """Fits by arguments: several examples begin with the same."""
    fit, found = drl.fit, {}

    @functools.wraps(fit)
    def remembered(data, **options):
        key = (data.name, len(data.train), repr(options))
        if key not in found:
            found[key] = fit(data, **options)
        return found[key]

    return remembered


def with_few_rows(load):
    """Toys that an example leaves at their usual size have 400 rows."""

    @functools.wraps(load)
    def loaded(source, **options):
        return load(source, **({"num_rows": 400} if source in ("banana", "eight_gaussians") else {}) | options)

    return loaded


def test_every_example_is_listed():
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted([*ARGUMENTS, DOUBLE_WELL])


@pytest.mark.usefixtures("short_paths", "short_ladders")
@pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")
@pytest.mark.parametrize("name", ARGUMENTS)
def test_examples_run(name, tiny_settings, tmp_path, monkeypatch, fits):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drl, "fit", fits)
    monkeypatch.setattr(drl, "load_dataset", with_few_rows(drl.load_dataset))
    if name in HAS_SANDWICH:  # which has no argument for its sizes
        monkeypatch.setattr(drl, "SandwichSettings", functools.partial(drl.SandwichSettings, **QUICK))
        monkeypatch.setattr(drl, "sandwich", functools.partial(drl.sandwich, settings=drl.SandwichSettings()))
        monkeypatch.setattr(search, "MOST_EXPENSIVE", 0)
    assert load(name).main(**ARGUMENTS[name](tiny_settings)) is not None


def test_every_example_has_a_page_with_its_figure_and_command():
    for path in EXAMPLES.glob("*.py"):
        page = (PAGES / f"{path.stem}.md").read_text(encoding="utf-8")
        assert f"]({path.stem}.png)" in page
        assert f"`python docs/example_pages.py {path.stem[:2]}" in page
        assert 1_000 < (PAGES / f"{path.stem}.png").stat().st_size < 80_000


def test_double_well_is_right():
    """10.29348 by quadrature."""
    estimate = load(DOUBLE_WELL).main()
    assert_z(estimate.log_z, 10.29348, estimate.standard_error)
