"""Fits of images from end to end: one density for all parts, run folders, labels, and the command line."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.cli import main
from drl_density.errors import DataError, RunFolderError
from drl_density.networks import ResidualEnergy, StepCalibrated, UNetEnergy, guide_by_label
from drl_density.partition_function import sequence_path
from drl_density.samplers import DDIMSettings, ShortRunSettings, sample_ddim, sample_short_run
from tests.conftest import long_annealing
from tests.density.small_images import right_over_left, settings_for, with_parts

pytestmark = pytest.mark.usefixtures("short_paths")


@pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")
def test_training_sampler_annealing_and_report_see_one_density(pictures, monkeypatch):
    """Every density asked for in a fit with the papers' T6 parts is F of the one place, to 1e-6 of its size."""
    settings = settings_for("cifar10")
    calls = []
    inner = drl.EnergySequence.log_density_at

    def watched(self, x, log_snr, label=None):
        value = inner(self, x, log_snr, label)
        calls.append((self, x.detach().clone(), log_snr.detach().clone(), value.detach().clone()))
        return value

    raw = []
    forward = StepCalibrated.forward

    def counted(self, x, log_snr, label=None):
        raw.append(len(calls))
        return forward(self, x, log_snr, label)

    monkeypatch.setattr(drl.EnergySequence, "log_density_at", watched)
    monkeypatch.setattr(StepCalibrated, "forward", counted)
    monkeypatch.setattr(sys.modules["drl_density.density.fitting.fit"], "check_memory", lambda *_: None)
    density = drl.fit(pictures, seed=0, settings=settings, progress=False)
    assert len(raw) == len(calls) > 0
    monkeypatch.undo()
    assert density.provenance.best_step == {"quadratic-0": 2}
    model = density.model
    x = density.transform(pictures.test.double() + 0.1).float()
    level = 1.0
    log_snr = model.schedule.log_snr_at(level)
    direct = model.log_density(x, level)
    path = sequence_path(model, steps_per_level=1)
    from_annealing = path.log_densities[path.levels.index(level)](x)
    from_distribution = model.level(level).unnormalized_log_prob(x)
    state = x.clone()
    recovery = model.recovery(level).condition(state)
    penalty = (
        0.5 * (state - model.recovery(level).step_alpha * x).square().sum(1) / model.recovery(level).step_sigma ** 2
    )
    from_sampler = recovery.unnormalized_log_prob(x) + penalty
    step_alpha, step_size = model.schedule.langevin_steps()
    network = model.network.network
    by_hand = network(step_alpha[1].float() * x, log_snr.float()) / step_size[1].float() ** 2 + model.base(x, log_snr)
    with torch.no_grad():
        for other in (from_annealing, from_distribution, from_sampler, by_hand):
            torch.testing.assert_close(other, direct, rtol=1e-6, atol=1e-6 * float(direct.abs().max()))
    rows = pictures.test.double() + 0.1
    data_units = density.log_prob(rows) + density.estimate.log_z
    jacobian = density.transform.log_abs_det_jacobian(rows, density.transform(rows))
    torch.testing.assert_close(
        data_units, model.log_density(density.transform(rows), 0) + jacobian, rtol=1e-6, atol=1e-6
    )


@pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")
@pytest.mark.parametrize("name", ["cifar10_cdrl", "images", "mnist_denoising"])
def test_fits_end_to_end_and_comes_back_from_its_folder(name, pictures, tmp_path):
    density = drl.fit(pictures, seed=0, settings=settings_for(name), progress=False, out=tmp_path / "run")
    again = drl.Density.load(tmp_path / "run")
    rows = pictures.test[:5].double() + 0.1
    assert torch.equal(again.log_prob(rows), density.log_prob(rows))
    assert again.settings == density.settings
    assert density.distribution().sample((2,)).shape == (2, 1, 4, 4)
    assert bool(torch.isfinite(density.log_prob(rows)).all())
    assert (again.model.initializer is None) == (name != "cifar10_cdrl")


@pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")
def test_weights_of_another_number_of_channels_are_refused(pictures, tmp_path):
    density = drl.fit(pictures, seed=0, settings=settings_for("images"), progress=False, out=tmp_path / "run")
    density.model.network = ResidualEnergy(dataclasses.replace(density.model.network.settings, num_channels=8))
    density.save(tmp_path / "wide")
    shutil.copy(tmp_path / "wide" / "weights.safetensors", tmp_path / "run")
    settings, wide = (tmp_path / name / "settings.json" for name in ("run", "wide"))
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "id": json.loads(wide.read_text())["id"]}))
    with pytest.raises(RunFolderError, match=r"run: the run is damaged or of another version.*size mismatch"):
        drl.Density.load(tmp_path / "run")


@pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")
@pytest.mark.parametrize("objective", ["adjusted", "langevin", "normal", "cooperative"])
def test_the_unet_energy_takes_every_objective(objective, pictures, tmp_path):
    """Those of chains too, step-calibrated as in T6, and comes back from its folder."""
    levels = 8 if objective == "normal" else 2  # the normal approximation is one of short steps
    is_calibrated = objective == "langevin"
    settings = settings_for(
        "mnist_denoising",
        objective=objective,
        num_levels=levels,
        network={"is_step_calibrated": is_calibrated},
        objective_parts={} if objective == "adjusted" else {"langevin_factor": 1e-2},
    )
    density = drl.fit(pictures, seed=0, settings=settings, progress=False, out=tmp_path / "run")
    rows = pictures.test[:5].double() + 0.1
    assert torch.equal(drl.Density.load(tmp_path / "run").log_prob(rows), density.log_prob(rows))
    energy = density.model.network.network if is_calibrated else density.model.network
    assert isinstance(energy, UNetEnergy)
    assert bool(energy.leave.weight.any())


def test_pictures_between_0_and_1_are_refused():
    rows = np.random.default_rng(0).uniform(size=(400, 4, 4))
    with pytest.raises(DataError, match="give images as uint8 arrays"):
        drl.fit(rows, seed=0, settings=settings_for("images"))


def test_dry_run_prints_sizes_and_sources_and_trains_nothing(tmp_path, capsys, pictures):
    path = tmp_path / "pictures.npy"
    np.save(path, np.concatenate([part.reshape(-1, 4, 4) for part in (pictures.train, pictures.test)]))
    out = tmp_path / "run"
    arguments = [
        "fit",
        str(path),
        "--preset",
        "images",
        "--dry-run",
        "--out",
        str(out),
        "--settings.schedule.num-levels",
        "3",
    ]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "parameters; memory about" in said
    assert "a step on this machine" in said
    assert '"num_levels": 3' in said
    assert "ours: sized for 2 CPU cores" in said
    assert not out.exists()
    assert main(["fit", str(path), "--preset", "cifar10", "--dry-run"]) == 1
    assert "choose another preset" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--preset", "images"], ["--preset=images"], ["--preset=cifar10", "--preset", "images"]]
)
def test_given_settings_win_over_a_preset_even_where_they_are_the_usual_defaults(option, tmp_path, capsys, pictures):
    """The preset says batches of 128, a Gaussian base and 64 particles; batch and base are given."""
    path, usual = tmp_path / "pictures.npy", drl.FitSettings()
    np.save(path, np.concatenate([part.reshape(-1, 4, 4) for part in (pictures.train, pictures.test)]))
    assert drl.FitSettings.preset("images").training.batch_size != usual.training.batch_size
    batch = ["--settings.training.batch-size", str(usual.training.batch_size)]
    given = [*batch, "--settings.base", usual.base, "--settings.objective.num-chain-steps", "7"]
    assert main(["fit", str(path), *option, *given, "--dry-run"]) == 0
    said = capsys.readouterr().out
    found = json.loads(said[said.index("{\n") : said.index("\n}\n") + 2])
    assert (found["base"], found["training"]["batch_size"]) == (usual.base, usual.training.batch_size)
    assert (found["objective"]["num_chain_steps"], found["num_particles"]) == (7, 64)
    assert found["network"]["kind"] == "residual"


def test_an_unknown_preset_on_the_command_line(tmp_path, capsys):
    assert main(["fit", "digits", "--preset", "cifar", "--out", str(tmp_path / "run")]) == 1
    assert "preset must be one of cifar10" in capsys.readouterr().err


class HalvesTold(torch.nn.Module):
    """tanh of right minus left for place 2, minus it for place 1, nothing where no label is told."""

    has_bounded_growth = True

    def forward(self, x, log_snr, label):
        sides = x.reshape(-1, 4, 4).mean(1) @ torch.tensor([-0.5, -0.5, 0.5, 0.5])
        return torch.tanh(sides) * torch.tensor([0.0, -1.0, 1.0])[label]


@pytest.fixture(scope="module")
def labelled_fit(labelled_pictures):
    settings = settings_for(
        "digits",
        num_pool_draws=24,
        objective="cooperative",
        base="gaussian",
        num_levels=5,
        num_particles=8,
        network={"num_classes": 2},
    )
    return drl.fit(labelled_pictures, seed=0, settings=settings, progress=False)


def test_a_cooperative_fit_draws_by_the_chains_of_its_training(labelled_fit):
    chains, level_zero = labelled_fit.settings.objective.chains, float(labelled_fit.model.schedule.sigma[0])
    factor = chains.factor * level_zero / labelled_fit.provenance.sigma_min  # the papers' rule counts from level 0
    short = ShortRunSettings(dataclasses.replace(chains, factor=factor), is_denoised=True)
    by_hand = sample_short_run(labelled_fit.model, 6, settings=short, generator=torch.Generator().manual_seed(0))
    found = labelled_fit.draw(6, settings=drl.DrawSettings("short-run"), seed=0)
    assert torch.equal(found.draws.flatten(1), labelled_fit.to_points(by_hand.draws).flatten(1))
    assert found.stats["acceptance_rate"].shape == (6,)


def test_chains_from_proposals_need_the_initialiser(labelled_fit):
    alone = dataclasses.replace(labelled_fit, model=labelled_fit.model.with_network(labelled_fit.model.network))
    with pytest.raises(DataError, match="starts at the proposals of the initialiser, and this density has none"):
        alone.draw(3, settings=drl.DrawSettings("short-run"))


def test_a_label_is_a_density(labelled_fit, labelled_pictures):
    assert labelled_fit.provenance.labels == (3, 8)
    assert labelled_fit.model.network.settings.num_classes == 2
    sizes = dataclasses.replace(labelled_fit.settings, num_particles=128, num_pool_draws=80)
    told = dataclasses.replace(labelled_fit, model=labelled_fit.model.with_network(HalvesTold()), settings=sizes)
    with long_annealing():  # without a warning: log Z of each is reliable
        left, right, sharper = told.guided(3, seed=0), told.guided(8, seed=0), told.guided(8, weight=1.0, seed=0)
    x = drl.load_dataset(labelled_pictures).test[:50].double()
    gap = left.log_prob(x) + left.estimate.log_z - labelled_fit.log_prob(x) - labelled_fit.estimate.log_z
    with torch.no_grad():
        u = left.transform(x).float()
        term = HalvesTold()(u, torch.zeros(()), torch.tensor(1)) - labelled_fit.model.network(u, torch.zeros(len(u)))
    torch.testing.assert_close(gap, term.double(), rtol=1e-3, atol=1e-3)
    gap = sharper.log_prob(x) + sharper.estimate.log_z - right.log_prob(x) - right.estimate.log_z
    torch.testing.assert_close(gap, -term.double(), rtol=1e-3, atol=1e-3)  # 2 g(8) - g(not told) - g(8)
    means = [float(right_over_left(density.pool).mean()) for density in (left, right, sharper)]
    assert means[0] < -20
    assert 20 < means[1] < means[2]


@pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")
def test_score_matching_learns_labels(labelled_pictures):
    """After seconds of training, ancestral draws of a label lie on its side."""
    settings = with_parts(
        settings_for("mnist_denoising", num_levels=8, num_particles=8, num_pool_draws=4),
        network={"num_classes": 2, "num_channels": 8, "patch_size": 1},
        training={"num_steps": 400, "evaluate_every": 400, "batch_size": 32, "learning_rate": 1e-2},
    )
    density = drl.fit(labelled_pictures, seed=0, settings=settings, progress=False)
    sides = []
    for place in (1, 2):
        model = density.model.with_network(guide_by_label(density.model.network, place, 0.0))
        ancestral = DDIMSettings(num_steps=20, eta=1.0)
        draws = sample_ddim(model, 100, settings=ancestral, generator=torch.Generator().manual_seed(place)).draws
        sides.append(right_over_left(density.transform.inv(draws.double())))
    assert float((sides[0] < -20).double().mean()) > 0.8
    assert float((sides[1] > 20).double().mean()) > 0.8


def test_an_image_fit_is_started_again_by_its_own_command(pictures, tmp_path):
    """Settings that a fit fills in by itself, such as the shape of images, are not taken for other settings."""
    settings = settings_for("digits", base="gaussian", num_particles=8, num_pool_draws=24)
    with long_annealing():  # without a warning: log Z is reliable
        first = drl.fit(pictures, seed=0, settings=settings, out=tmp_path / "run", progress=False)
        again = drl.fit(pictures, seed=0, settings=settings, out=tmp_path / "run", resume=True, progress=False)
    assert torch.equal(first.pool, again.pool)
    wider = with_parts(settings, network={"num_blocks": 3})
    with pytest.raises(RunFolderError, match="num_blocks was 1, now asked for 3"):
        drl.fit(pictures, seed=0, settings=wider, out=tmp_path / "run", resume=True, progress=False)


def test_guide_writes_a_run(labelled_fit, tmp_path, capsys):
    run, eight = labelled_fit.save(tmp_path / "run"), tmp_path / "eight"
    assert main(["guide", str(run), "8", "--weight", "1", "--out", str(eight)]) == 0
    again, x = drl.Density.load(eight), labelled_fit.pool[:5]
    network = guide_by_label(labelled_fit.model.network, 2, 1.0)
    told = dataclasses.replace(again, model=labelled_fit.model.with_network(network))
    torch.testing.assert_close(again.log_prob(x), told.log_prob(x))
    assert again.pool.shape == (24, 16)
    assert (again.provenance.label, again.provenance.guidance) == (8, 1.0)
    assert main(["guide", str(run), "5", "--out", str(tmp_path / "five")]) == 1
    assert "labels 3, 8" in capsys.readouterr().err
    assert main(["guide", str(run), "8", "--out", str(eight)]) == 1
    with pytest.raises(DataError, match="fitted without labels"):
        again.guided(8)
