"""Fits to images: presets with their sources, one density for everybody, dry runs, memory, run folders."""

import dataclasses
import json
import math
import shutil
import sys

import numpy as np
import pytest
import torch
from scipy import stats

import drl_density as drl
from drl_density.bases import QuadraticBase
from drl_density.cli import main
from drl_density.datasets import Column
from drl_density.density.fitting import baselines
from drl_density.density.fitting.baselines import gaussian_log_density, histogram_log_density
from drl_density.density.fitting.build import build_doctor, network_factory
from drl_density.density.fitting.forecast import available_memory, check_memory, footprint
from drl_density.density.fitting.selection import AnnealedLikelihood
from drl_density.density.settings.presets import PRESETS
from drl_density.errors import DataError, RunFolderError
from drl_density.networks import ResidualEnergy, StepCalibrated, UNet, UNetEnergy, guide_by_label
from drl_density.partition_function import sequence_path
from drl_density.samplers import DDIMSettings, sample_ddim
from drl_density.training import CooperativeRecovery, LangevinRecovery, RecoveryLikelihood
from tests.density.small_images import plan_for, settings_for, with_parts


@pytest.fixture(scope="module")
def pictures():
    """96 grey 4x4 pictures of 8 bits: a bright half, left or right, with noise."""
    generator = torch.Generator().manual_seed(0)
    side = torch.randint(2, (96,), generator=generator)
    bright = torch.zeros(96, 4, 4, dtype=torch.long)
    bright[side == 0, :, :2] = 200
    bright[side == 1, :, 2:] = 200
    noise = torch.randint(50, (96, 4, 4), generator=generator)
    return drl.load_dataset((bright + noise).to(torch.uint8).numpy(), seed=0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_of_a_preset_has_a_source_and_a_place(name):
    preset = PRESETS[name]
    settings = drl.FitSettings.preset(name)
    plain = settings.to_dict()
    for path, number in preset.numbers.items():
        assert len(number.source) > 8, path
        value = plain
        for part in path.split("."):
            value = value[part]
        assert value == number.value, path
    assert drl.FitSettings.from_dict(json.loads(json.dumps(plain))) == settings
    assert name in preset.describe()


# What the papers' releases say: blocks, batch, beta_1, K, b^2, side, clip, average; T1k has no chains.
PAPERS = {
    "cifar10": (8, 256, 0.9, 30, 2e-4, 32, math.inf, 0.999),
    "celeba64": (6, 128, 0.5, 30, 2e-4, 64, math.inf, 0.999),
    "lsun_church64": (2, 128, 0.9, 30, 2e-4, 64, math.inf, 0.999),
    "lsun_bedroom64": (2, 128, 0.9, 30, 2e-4, 64, math.inf, 0.999),
    "lsun_church128": (2, 64, 0.5, 30, 2e-4, 128, math.inf, 0.999),
    "lsun_bedroom128": (5, 64, 0.5, 30, 2e-4, 128, math.inf, 0.999),
    "cifar10_t1k": (8, 256, 0.9, 0, 2e-4, 32, math.inf, 0.999),
    "cifar10_cdrl": (8, 256, 0.9, 15, 4e-4, 32, 1.0, 0.9999),
    "imagenet32_cdrl": (8, 256, 0.9, 15, 4e-4, 32, 1.0, 0.9999),
    "celeba64_cdrl": (8, 256, 0.9, 15, 4e-4, 64, 1.0, 0.9999),
}
MULTIPLIERS = {32: (1, 2, 2, 2), 64: (1, 2, 2, 2, 4), 128: (1, 2, 2, 2, 4, 4)}
THOUSAND = drl.NoiseSchedule.linear_beta(range(1000))


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_numbers(name):
    settings = drl.FitSettings.preset(name)
    network, objective, training = settings.network, settings.objective, settings.training
    is_normal = name == "cifar10_t1k"
    found = (
        network.num_blocks,
        training.batch_size,
        training.first_moment_decay,
        0 if is_normal else objective.num_chain_steps,
        objective.langevin_factor,
        network.shape[1],
        training.max_gradient_norm,
        training.average_decay,
    )
    assert found == PAPERS[name]
    assert (training.rate(10**5), training.second_moment_decay) == (1e-4, 0.999)
    warmup = 10_000 if name.endswith("cdrl") else 1000
    assert training.rate(warmup // 2 - 1) == pytest.approx(0.5e-4)
    assert objective.classification_weight == 0
    assert settings.base == "quadratic"
    assert settings.selection == "last"
    is_cooperative = name.endswith("cdrl")
    six = drl.NoiseSchedule.cosine(6) if is_cooperative else drl.NoiseSchedule.linear_beta()
    assert settings.schedule.noise_schedule() == (THOUSAND if is_normal else six)
    kind = "normal" if is_normal else "cooperative" if is_cooperative else "langevin"
    assert (objective.kind, is_normal or objective.kernel == "ula") == (kind, True)
    assert (network.kind, network.num_channels, network.multipliers) == (
        "residual",
        128,
        MULTIPLIERS[network.shape[1]],
    )
    assert (network.is_normalized, network.activation, network.starts_at_zero) == (True, "leaky_relu", False)
    assert (network.is_step_calibrated, network.has_level_index) == (True, not is_cooperative)
    assert network.flips
    if is_cooperative:
        assert (objective.initializer_channels, objective.initializer_rate) == (64, pytest.approx(1e-5 / 1e-4))
    if name != "celeba64_cdrl":  # no source states its length
        assert training.num_steps == (400_000 if name == "cifar10_cdrl" else 1_000_000)


def test_the_initializer_learns_at_a_tenth_of_the_rate(pictures):
    """1e-4 for the energy and 1e-5 for the initialiser, each gradient clipped to norm 1 by itself."""
    plan = plan_for("cifar10_cdrl", pictures)
    state = plan.new_state(plan.members[0].base, seed=0)
    state.set_rates(1e-4)
    energy, initializer = state.optimizer.param_groups
    assert [group["lr"] for group in (energy, initializer)] == [1e-4, pytest.approx(1e-5)]
    model = state.model
    assert {id(part) for part in initializer["params"]} == {id(part) for part in model.initializer.parameters()}
    assert {id(part) for part in model.network.parameters()} <= {id(part) for part in energy["params"]}
    assert len(energy["params"]) + len(initializer["params"]) == len(list(model.parameters()))
    for group, size in ((energy, 30.0), (initializer, 0.4)):
        count = sum(part.numel() for part in group["params"])
        for part in group["params"]:
            part.grad = torch.full_like(part, size / math.sqrt(count))
    assert float(state.clip_gradients(1.0)) == pytest.approx(math.hypot(30.0, 0.4), rel=1e-5)
    for group, wanted in ((energy, 1.0), (initializer, 0.4)):
        norm = torch.stack([part.grad.square().sum() for part in group["params"]]).sum().sqrt()
        assert float(norm) == pytest.approx(wanted, rel=1e-5)


def test_weights_are_selected_by_the_last_step_or_the_likelihood(pictures):
    assert AnnealedLikelihood(torch.zeros(1, 16)).has_learned_constants
    last, likelihood = (plan_for(name, pictures).selection for name in ("cifar10", "images"))
    assert (last.rule, last.has_learned_constants) == ("last", False)
    assert (likelihood.rule, likelihood.has_learned_constants) == ("likelihood", True)
    assert (likelihood.num_particles, likelihood.num_training_particles) == (4, 4)


@pytest.mark.parametrize("objective", ["langevin", "normal"])
def test_the_topmost_scale_is_1_only_where_the_top_is_a_marginal(objective, pictures):
    """The normal approximation has a conditional at the top too, whose a is that of the step."""
    plan = plan_for("cifar10", pictures, num_levels=6, objective=objective)
    model = plan.new_model(plan.members[0].base, seed=0)
    expected = model.schedule.step_alpha.clone()
    if objective == "langevin":
        expected[-1] = 1.0
    found = model.network.step_alpha_at(model.schedule.log_snr[:-1])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0, check_dtype=False)


def test_settings_become_the_papers_parts(pictures):
    plan = plan_for("cifar10", pictures, num_levels=6)
    model = plan.new_model(plan.members[0].base, seed=0)
    assert isinstance(model.network, StepCalibrated)
    assert isinstance(model.network.network, ResidualEnergy)
    assert isinstance(model.base, QuadraticBase)
    assert model.is_integrable
    assert model.schedule == drl.NoiseSchedule.linear_beta()
    times = model.network.network.embed_level.time(model.schedule.log_snr.float())
    assert torch.allclose(times[:6], torch.arange(6.0), atol=1e-4)
    assert isinstance(plan.objective, LangevinRecovery)
    assert plan.objective.start == "noisier"
    normal = plan_for("cifar10_t1k", pictures).objective
    assert (normal.negatives, normal.chains.is_top_marginal) == ("normal", False)
    plan = plan_for("cifar10_cdrl", pictures, num_levels=6)
    model = plan.new_model(plan.members[0].base, seed=0)
    assert isinstance(model.initializer, UNet)
    assert isinstance(plan.objective, CooperativeRecovery)
    assert model.schedule == drl.NoiseSchedule.cosine(6)
    assert isinstance(plan_for("images", pictures).objective, RecoveryLikelihood)


def test_pixels_are_rescaled_and_mirrored(pictures):
    plan = plan_for("cifar10", pictures)
    table = plan.table
    ends = torch.tensor([0.0, 255.0], dtype=torch.float64)[:, None].expand(2, 16)
    assert torch.equal(table.transform(ends)[:, 0], torch.tensor([-1.0, 1.0], dtype=torch.float64))
    plain = table.batches(64, torch.Generator().manual_seed(0)).reshape(64, 1, 4, 4)
    batches = plan.source(plan.new_state(plan.members[0].base, seed=0))
    rows = batches(64, torch.Generator().manual_seed(0)).reshape(64, 1, 4, 4)
    same = (rows == plain).flatten(1).all(1)
    flipped = (rows == plain.flip(-1)).flatten(1).all(1)
    assert bool((same | flipped).all())
    assert 10 < int(flipped.sum()) < 54


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
    with pytest.raises(RunFolderError, match=r"run: the run is damaged or of another version.*size mismatch"):
        drl.Density.load(tmp_path / "run")


@pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")
@pytest.mark.parametrize("objective", ["adjusted", "langevin", "normal", "cooperative"])
def test_the_unet_energy_takes_every_objective(objective, pictures, tmp_path):
    """Those of chains too, step-calibrated as in T6, and comes back from its folder."""
    levels = 40 if objective == "normal" else 2  # the normal approximation is one of short steps
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


def test_memory_is_counted_and_refused_before_training(pictures, monkeypatch):
    plan = plan_for("images", pictures)
    small = footprint(plan)
    wide = plan_for("images", pictures, network={"num_channels": 16})
    assert 3.5 < footprint(wide).activation_bytes / small.activation_bytes < 4.1

    def with_training(**given):
        return dataclasses.replace(plan, training=dataclasses.replace(plan.training, **given))

    assert footprint(with_training(batch_size=16)).activation_bytes == 2 * small.activation_bytes
    assert footprint(with_training(batch_size=16, num_shards=2)).activation_bytes == small.activation_bytes
    model = plan.new_model(QuadraticBase(16, 1.0), seed=0)
    assert small.num_parameters == sum(part.numel() for part in model.network.parameters())
    check_memory(plan)
    alone = available_memory()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert 0.2 < available_memory() / alone < 0.3
    module = sys.modules[footprint.__module__]
    monkeypatch.setattr(module, "available_memory", lambda _: 1000)
    monkeypatch.setattr(
        sys.modules["drl_density.density.fitting.fit"], "train", lambda *_, **__: pytest.fail("trained all the same")
    )
    with pytest.raises(DataError, match="lower training.batch_size"):
        drl.fit(pictures, seed=0, settings=settings_for("images"), progress=False)
    monkeypatch.setattr(module, "available_memory", lambda _: None)
    check_memory(plan)


@pytest.mark.parametrize("level", range(6))
def test_the_papers_gaps_are_limited_in_the_raw_output_at_every_level(level):
    """A raw output that is 3 d off is divided by the squared Langevin step of its level, which differ 900 times."""
    settings = drl.FitSettings.preset("cifar10")
    doctor = build_doctor(settings.objective, settings.schedule.noise_schedule())
    _, step_size = drl.NoiseSchedule.linear_beta().langevin_steps()
    limit = 3 * 3072 / float(step_size[level]) ** 2
    record, gaps = {"loss": -1.0, "validation_loss": 1.0}, torch.zeros(6)
    gaps[level] = -0.99 * limit
    assert doctor.divergence(record | {"energy_gap": gaps.tolist()}, [], num_features=3072) is None
    gaps[level] = -1.01 * limit
    assert f"at level {level}" in doctor.divergence(record | {"energy_gap": gaps.tolist()}, [], num_features=3072)


def test_checkpoints_keep_less_and_an_initialiser_keeps_more(pictures):
    """A block keeps its input and three tensors of its inside: of many blocks about a quarter is left."""
    deep = {"network": {"num_blocks": 12}}

    def bytes_of(objective=None, *, is_checkpointed=False, **given):
        parts = {} if objective is None else {"classification_weight": 0.0}
        plan = plan_for("images", pictures, objective=objective, objective_parts=parts, **deep)
        training = dataclasses.replace(plan.training, is_checkpointed=is_checkpointed)
        return footprint(dataclasses.replace(plan, training=training)).activation_bytes

    assert 0.2 < bytes_of(is_checkpointed=True) / bytes_of() < 0.45
    once = bytes_of("langevin")
    assert bytes_of("denoising", is_checkpointed=True) == pytest.approx(2 * once, rel=1e-6)
    assert bytes_of("cooperative") > 1.01 * once


UNIT_RANGE = np.random.default_rng(0).uniform(size=(400, 4, 4))
OBJECTIVE, LEVELS = drl.AdjustedObjective(), drl.LogSpacedSchedule(2, 0.1).noise_schedule()
BAD = [
    (
        lambda: drl.FitSettings(objective=drl.LangevinObjective(), network=drl.UNetNetwork(num_classes=2)),
        ValueError,
        "only the cooperative and the denoising objective learn labels",
    ),
    (lambda: drl.FitSettings.preset("cifar"), ValueError, "preset must be one of cifar10"),
    (lambda: drl.ResidualNetwork(shape=(3, 32, 32)).resolve(100, (1, 4, 4)), DataError, "the data has"),
    (lambda: drl.ResidualNetwork().resolve(100, (13,)), DataError, "needs images"),
    (
        lambda: drl.fit(UNIT_RANGE, seed=0, settings=settings_for("images")),
        DataError,
        "give images as uint8 arrays",
    ),
    (
        lambda: network_factory(drl.UNetNetwork(patch_size=3).resolve(100, (8, 8)), OBJECTIVE, LEVELS, 64),
        DataError,
        "or network.patch_size do not fit",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=[row[2] for row in BAD])
def test_bad_input(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


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


@pytest.mark.parametrize("cells_at_once", [1, 4, 100])
def test_independent_pixels_are_the_histograms(cells_at_once, monkeypatch):
    """Two columns of three and two values: shares (count + 1) / (rows + values), divided by the width."""
    monkeypatch.setattr(baselines, "CELLS_AT_ONCE", cells_at_once)
    columns = [Column("a", "integer", 1.0, lower=-0.5, upper=2.5), Column("b", "rounded", 0.5, lower=-0.25, upper=0.75)]
    train = torch.tensor([[0.0, 0.0], [0.0, 0.5], [2.0, 0.5]])
    rows = torch.tensor([[0.3, 0.6], [1.4, -0.2]])
    expected = [math.log(3 / 6) + math.log(3 / 5 / 0.5), math.log(1 / 6) + math.log(2 / 5 / 0.5)]
    found = histogram_log_density(train, rows, columns)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_the_gaussian_floor_has_a_covariance_where_one_can_be_held(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    train = (
        torch.randn(50, 3, generator=generator, dtype=torch.float64)
        @ torch.tensor([[1.0, 2, 0], [0, 1, 0], [0, 0, 3]]).double()
    )
    rows = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    moments = train.mean(0).numpy(), np.cov(train.numpy().T)
    full = stats.multivariate_normal(*moments).logpdf(rows.numpy())
    np.testing.assert_allclose(gaussian_log_density(train, rows).numpy(), full, rtol=1e-5)
    monkeypatch.setattr(baselines, "LARGEST_COVARIANCE", 2)
    alone = stats.norm(moments[0], np.diag(moments[1]) ** 0.5).logpdf(rows.numpy()).sum(1)
    np.testing.assert_allclose(gaussian_log_density(train, rows).numpy(), alone, rtol=1e-5)
    assert np.abs(full - alone).max() > 0.1


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """The pictures with their labels, 3 for a bright left half and 8 for a bright right half."""
    generator = torch.Generator().manual_seed(0)
    right = torch.randint(2, (400,), generator=generator).bool()
    bright = torch.zeros(400, 4, 4, dtype=torch.long)
    bright[~right, :, :2] = 200
    bright[right, :, 2:] = 200
    pixels = (bright + torch.randint(50, (400, 4, 4), generator=generator)).to(torch.uint8).numpy()
    path = tmp_path_factory.mktemp("labelled") / "halves.npz"
    np.savez(path, x_train=pixels, y_train=torch.where(right, 8, 3).numpy())
    return path


def right_over_left(rows):
    pixels = torch.as_tensor(rows, dtype=torch.float64).reshape(-1, 4, 4)
    return pixels[:, :, 2:].mean((1, 2)) - pixels[:, :, :2].mean((1, 2))


class HalvesTold(torch.nn.Module):
    """tanh of right minus left for place 2, minus it for place 1, nothing where no label is told."""

    has_bounded_growth = True

    def forward(self, x, log_snr, label):
        sides = x.reshape(-1, 4, 4).mean(1) @ torch.tensor([-0.5, -0.5, 0.5, 0.5])
        return torch.tanh(sides) * torch.tensor([0.0, -1.0, 1.0])[label]


@pytest.fixture(scope="module")
def labelled_fit(labelled):
    settings = settings_for(
        "digits",
        num_pool_draws=24,
        objective="cooperative",
        base="gaussian",
        num_levels=5,
        num_particles=8,
        network={"num_classes": 2},
    )
    return drl.fit(labelled, seed=0, settings=settings, progress=False)


def test_batches_carry_the_places_of_their_labels(labelled):
    data = drl.load_dataset(labelled)
    plan = plan_for("cifar10_cdrl", data, network={"num_classes": 2, "flips": False})
    state = plan.new_state(plan.table.bases.best, seed=0)
    rows, places = plan.source(state)(64, torch.Generator().manual_seed(0))
    assert torch.equal(places, torch.where(right_over_left(rows) > 0, 2, 1))
    mirroring = plan_for("cifar10_cdrl", data, network={"num_classes": 2, "flips": True})
    mirrored, _ = mirroring.source(state)(400, torch.Generator().manual_seed(0))
    assert 100 < int((right_over_left(mirrored) > 0).sum()) < 300
    model = plan.new_model(plan.table.bases.best, seed=0)
    generator = torch.Generator().manual_seed(0)
    plan.objective(model, (rows, places), torch.full((2,), 0.1), generator=generator).loss.backward()
    gradient = model.network.network.embed_label.weight.grad
    assert bool((gradient.abs().sum(1) > 0).all())  # both labels, and "not told"


def test_a_label_is_a_density(labelled_fit, labelled):
    assert labelled_fit.provenance.labels == (3, 8)
    assert labelled_fit.model.network.settings.num_classes == 2
    sizes = dataclasses.replace(labelled_fit.settings, num_particles=128, num_pool_draws=200)
    told = dataclasses.replace(labelled_fit, model=labelled_fit.model.with_network(HalvesTold()), settings=sizes)
    left, right, sharper = told.guided(3, seed=0), told.guided(8, seed=0), told.guided(8, weight=1.0, seed=0)
    x = drl.load_dataset(labelled).test[:50].double()
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


def test_score_matching_learns_labels(labelled):
    """After seconds of training, ancestral draws of a label lie on its side."""
    settings = with_parts(
        settings_for("mnist_denoising", num_levels=8, num_particles=64, num_pool_draws=4),
        network={"num_classes": 2, "num_channels": 8, "patch_size": 1},
        training={"num_steps": 400, "evaluate_every": 400, "batch_size": 32, "learning_rate": 1e-2},
    )
    density = drl.fit(labelled, seed=0, settings=settings, progress=False)
    sides = []
    for place in (1, 2):
        model = density.model.with_network(guide_by_label(density.model.network, place, 0.0))
        ancestral = DDIMSettings(num_steps=40, eta=1.0)
        draws = sample_ddim(model, 200, settings=ancestral, generator=torch.Generator().manual_seed(place)).draws
        sides.append(right_over_left(density.transform.inv(draws.double())))
    assert float((sides[0] < -20).double().mean()) > 0.8
    assert float((sides[1] > 20).double().mean()) > 0.8


def test_an_image_fit_is_started_again_by_its_own_command(pictures, tmp_path):
    """Settings that a fit fills in by itself, such as the shape of images, are not taken for other settings."""
    settings = settings_for("digits", base="gaussian", num_particles=8, num_pool_draws=24)
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


def test_labels_that_do_not_fit(labelled, pictures):
    five = settings_for("cifar10_cdrl", network={"num_classes": 5})
    with pytest.raises(DataError, match=r"5, and the data have 2 labels \(3, 8\)"):
        drl.fit(labelled, seed=0, settings=five, progress=False)
    with pytest.raises(DataError, match="give y_train beside"):
        drl.fit(pictures, seed=0, settings=five, progress=False)
    with pytest.raises(ValueError, match='cooperative and the denoising objective learn labels, got "langevin"'):
        settings_for("cifar10", network={"num_classes": 5})
