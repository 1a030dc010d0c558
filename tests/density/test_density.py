"""Every public method of a density: randomness, sizes, columns, kinds of input, and results in units of the data."""

import copy
import inspect
import math

import numpy as np
import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density import samplers
from drl_density.datasets import Column
from drl_density.density import Density
from drl_density.density.fitted import dequantized_rows
from drl_density.diffusion_sampler import sequence_sampler
from drl_density.errors import DataError
from drl_density.inverse_problems import ConditionalSettings, sample_measured
from drl_density.operators import Mask
from tests.conftest import posteriors_of
from tests.density.closed_form import closed_form_density

pytestmark = [
    pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning"),
    pytest.mark.usefixtures("short_ladders"),
]

FEW = ConditionalSettings(num_particles=16, num_final_steps=8)
FEW_AIS = drl.AISSettings(num_particles=16, num_replicates=2, num_transitions=1, num_pilot_particles=16)
LEAST = drl.SandwichSettings(num_particles=16, num_replicates=2, num_mixing_steps=2, path_steps_per_level=4)
CHAINS = drl.DiagnoseSettings(num_steps=100, num_chains=8)
MASK = Mask(torch.tensor([True, False, False]))
ROWS = torch.tensor([[2.4, 1.9, 2.8], [0.3, 1.2, 1.5]], dtype=torch.float64)
HOLED = torch.tensor([[math.nan, 1.5, math.nan], [0.3, math.nan, 2.0]], dtype=torch.float64)


@pytest.fixture(scope="module")
def density():
    return closed_form_density()


def near_zero(x):
    return -x.square().sum(-1)


def conditional_log_z(density, seed):
    return density.condition({"x0": 2.4}, normalize=True, settings=FEW, seed=seed).estimate.log_z


def distilled(density, seed):
    settings = drl.DistillSettings(method="em", num_updates=2, num_warm_updates=2, batch_size=8, width=8)
    return density.distill(settings=settings, seed=seed).losses


def reconstructed(density, seed):
    settings = drl.ReconstructSettings("dps", num_steps=3)
    return density.reconstruct(MASK, torch.tensor([0.5]), num_samples=3, settings=settings, seed=seed).draws


RANDOM = {
    "sample": lambda d, seed: d.sample(3, seed=seed),
    "sample_frame": lambda d, seed: d.sample_frame(3, seed=seed).to_numpy().copy(),
    "run": lambda d, seed: d.run((3,), seed=seed).draws,
    "draw": lambda d, seed: d.draw(3, settings=drl.DrawSettings("ddim", num_steps=4), seed=seed).draws,
    "evaluate": lambda d, seed: d.evaluate(ROWS, settings=LEAST, seed=seed).log_z,
    "diagnose": lambda d, seed: d.diagnose(d.pool[:50], settings=CHAINS, seed=seed)["energy_gap"],
    "condition": conditional_log_z,
    "marginal": lambda d, seed: d.marginal(["x0"], settings=FEW, seed=seed).log_prob(ROWS[:, :1]),
    "impute": lambda d, seed: d.impute(HOLED, num_samples=2, settings=FEW, seed=seed).rows,
    "predict": lambda d, seed: d.predict(HOLED[:1], "x0", settings=FEW, seed=seed).mean,
    "posterior": lambda d, seed: d.posterior(near_zero, num_samples=4, settings=FEW_AIS, seed=seed).draws,
    "reconstruct": reconstructed,
    "distill": distilled,
    "combine": lambda d, seed: drl.combine([d], num_samples=3, settings=FEW_AIS, seed=seed).draws,
}


EXPENSIVE = ("combine", "diagnose", "evaluate", "posterior")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in EXPENSIVE else []) for name in RANDOM]
)
def test_seeds_fix_the_numbers(name, density):
    """Equal seeds give equal results, different ones do not."""
    with posteriors_of(10):
        first, again, other = (torch.as_tensor(RANDOM[name](density, seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", [name for name in RANDOM if name not in EXPENSIVE])
def test_without_a_seed_numbers_are_fresh(name, density):
    """Each call gives other numbers, which torch's own seed fixes."""
    torch.manual_seed(5)
    first, other = (torch.as_tensor(RANDOM[name](density, None)) for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(first, torch.as_tensor(RANDOM[name](density, None)))
    assert not torch.equal(first, other)


def test_no_method_with_randomness_is_left_out():
    """Whatever takes a seed is in the list above; guided and bits per dimension need fits with labels and of images, whose
    own tests have them."""
    taking = {
        name
        for name, method in inspect.getmembers(Density, inspect.isfunction)
        if not name.startswith("_") and "seed" in inspect.signature(method).parameters
    }
    assert taking == {*RANDOM, "guided", "bits_per_dimension"} - {"combine"}


@pytest.mark.parametrize(("size", "shape"), [(0, (0,)), (1, (1,)), ((), ()), ((2, 5), (2, 5)), (torch.Size([3]), (3,))])
def test_samples_have_the_shape_asked_for(density, size, shape):
    draws = density.sample(size, seed=0)
    assert draws.shape == (*shape, 3)
    assert density.log_prob(draws).shape == shape
    assert draws.dtype == torch.float64


def test_negative_numbers_of_draws_are_refused(density):
    with pytest.raises(DataError, match="that are not negative, got -1"):
        density.sample(-1)


TOO_FEW = {
    "impute": lambda d: d.impute(HOLED, num_samples=0),
    "draw": lambda d: d.draw(0),
    "posterior": lambda d: d.posterior(near_zero, num_samples=0),
    "reconstruct": lambda d: d.reconstruct(MASK, torch.zeros(1), num_samples=0),
}


@pytest.mark.parametrize("name", TOO_FEW)
def test_too_few_draws_or_rows_are_refused(name, density):
    with pytest.raises(DataError, match="at least|positive integer, got 0"):
        TOO_FEW[name](density)


def test_negative_indices_count_columns_from_the_end(density):
    assert [density.column_index(index) for index in (-1, -3, 2, "x1")] == [2, 0, 2, 1]
    x = torch.tensor([[0.5]])
    by_name, by_index = (density.marginal([key], settings=FEW, seed=0).log_prob(x) for key in ("x2", -1))
    assert torch.equal(by_name, by_index)
    assert torch.equal(density.predict(ROWS, -3, seed=0).mean, density.predict(ROWS, "x0", seed=0).mean)
    points = torch.zeros(2, 2, dtype=torch.float64)
    conditionals = [density.condition({key: 1.0}).log_prob(points) for key in (-1, "x2")]
    assert torch.equal(*conditionals)


KINDS = {
    "array": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "data frame": lambda x: pd.DataFrame(x.numpy(), columns=["x0", "x1", "x2"]),
    "data frame in another order": lambda x: pd.DataFrame(x.numpy()[:, ::-1], columns=["x2", "x1", "x0"]),
}
TAKING_ROWS = {
    "log_prob": lambda d, x: d.log_prob(x),
    "score": lambda d, x: figures(d.score(x), "log_density_lower"),
    "outlier_scores": lambda d, x: figures(d.outlier_scores(x), "strangeness"),
    "dequantized_rows": lambda d, x: dequantized_rows(d, x)[0],
    "predict": lambda d, x: figures(d.predict(x, "x0", seed=0), "mean"),
    "marginal": lambda d, x: d.marginal([0, 1, 2][:2], settings=FEW, seed=0).log_prob(part(x)),
}


def figures(found, name):
    return found[name] if isinstance(found, pd.DataFrame) else getattr(found, name)


def part(x):
    return x[["x0", "x1"]] if isinstance(x, pd.DataFrame) else torch.as_tensor(x, dtype=torch.float64)[:, :2]


@pytest.mark.parametrize("name", TAKING_ROWS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind_give_the_same(name, kind, density):
    found = TAKING_ROWS[name](density, KINDS[kind](ROWS))
    assert isinstance(found, pd.Series) == (kind.startswith("data frame") and name != "dequantized_rows")
    assert torch.equal(torch.as_tensor(np.asarray(found).copy()), TAKING_ROWS[name](density, ROWS))


def test_a_data_frame_is_completed_as_its_rows_are(density):
    frame = pd.DataFrame(HOLED.numpy(), columns=["x0", "x1", "x2"], index=["u", "v"]).assign(extra=["one", "two"])
    completed = density.impute(frame, num_samples=2, settings=FEW, seed=0)
    record = density.impute(HOLED, num_samples=2, settings=FEW, seed=0)
    assert completed.index.tolist() == [(0, "u"), (0, "v"), (1, "u"), (1, "v")]
    assert np.array_equal(completed[["x0", "x1", "x2"]].to_numpy(), record.rows.flatten(0, 1).numpy())
    assert completed.extra.tolist() == ["one", "two"] * 2
    assert completed.attrs == {"filled_cells": 3, "doubtful_rows": int(record.is_doubtful.sum())}


def test_a_data_frame_may_lack_the_predicted_column(density):
    frame = pd.DataFrame(ROWS[:, 1:].numpy(), columns=["x1", "x2"])
    found = density.predict(frame, "x0", seed=0)
    assert np.array_equal(found["mean"], density.predict(ROWS, "x0", seed=0).mean)
    assert found.log_density.isna().all()
    with pytest.raises(DataError, match="columns that are not here: x0"):
        density.log_prob(frame)


def test_objects_are_equal_only_to_themselves(density):
    other = closed_form_density()
    assert density == density
    assert density != other
    assert len({density, other}) == 2
    assert density.to("cpu") is density


def test_the_representation_is_short(density):
    text = repr(density)
    assert len(text) < 200
    assert text.startswith("Density(")
    assert all(part in text for part in ("event_shape=(3,)", "x0, x1, x2", "log Z reliable"))
    many = closed_form_density(columns=tuple(Column(f"column{index}") for index in range(3)))
    assert "column2" in repr(many)


def test_rows_of_images_may_be_flat():
    """A fit of shape (1, 3) takes rows of that shape and flat ones, and keeps batch shapes of both."""
    import dataclasses

    density = dataclasses.replace(closed_form_density(), event_shape=(1, 3))
    assert torch.equal(density.log_prob(ROWS[:, None]), density.log_prob(ROWS))
    assert density.log_prob(ROWS.reshape(2, 1, 1, 3)).shape == (2, 1)
    assert density.log_prob(np.asarray(ROWS)[0]).shape == ()
    assert density.sample(2, seed=0).shape == (2, 1, 3)
    with pytest.raises(DataError, match=r"rows of shape \(1, 3\), got \(2, 2\)"):
        density.log_prob(ROWS[:, :2])


@pytest.mark.parametrize(
    "sampler",
    [
        samplers.sample_ddim,
        samplers.sample_flow,
        samplers.sample_ancestral,
        samplers.sample_progressive,
        samplers.sample_short_run,
        lambda d, n: samplers.sample_predictor_corrector(d, n, settings=samplers.PredictorCorrectorSettings()),
        lambda d, n: samplers.sample_averaged(d, n, average=samplers.moving_average(3, 0.5)),
        lambda d, n: samplers.invert_ddim(d, ROWS),
        lambda d, n: sample_measured(d, MASK, ROWS[0, :1], n, noise=0.5),
        lambda d, n: sequence_sampler(d),
    ],
)
def test_a_density_in_place_of_its_sequence_is_refused_with_the_way_out(density, sampler):
    with pytest.raises(AttributeError, match=r"give samplers and estimators density\.model"):
        sampler(density, 2)
    with pytest.raises(AttributeError, match="object has no attribute 'sampel'$"):
        density.sampel  # noqa: B018
    assert copy.deepcopy(density).plan == density.plan
