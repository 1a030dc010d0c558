"""A density on a device: where tensors are from fit to report, and that tensors of two devices never meet.

There need be no second device. A pretended one (``tests/integration/pretended_device.py``) refuses what a GPU refuses and
gives the CPU's numbers, so every result must equal the CPU's own.
"""

import dataclasses

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.bases import gaussian_mixture
from drl_density.cli import COMMANDS, main
from drl_density.cli.command import OnDevice
from drl_density.density import (
    DiagnoseSettings,
    DistillSettings,
    DrawSettings,
    ReconstructSettings,
    combine,
    load_generator,
)
from drl_density.density.evaluation.evaluate import evaluate
from drl_density.devices import available_memory
from drl_density.inverse_problems import ConditionalSettings
from drl_density.networks import MLP, MLPSettings
from drl_density.operators import Mask
from drl_density.partition_function import AISSettings, SandwichSettings
from drl_density.samplers import TemperingSettings, run_tempering
from drl_density.testing import seeded_generator
from drl_density.training import Evaluation, RecoveryLikelihood, TrainingSettings, new_state, train
from tests.density.small_images import settings_for
from tests.integration.pretended_device import CARD, PretendedDevice

pytestmark = [
    pytest.mark.usefixtures("short_paths"),
    pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning"),
    pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter:UserWarning"),
]

SETTINGS = drl.FitSettings(
    base="gaussian",
    objective=drl.AdjustedObjective(num_chain_steps=2),
    network=drl.MLPNetwork(width=8, num_blocks=1),
    schedule=drl.LogSpacedSchedule(num_levels=2),
    num_pool_draws=24,
    num_particles=8,
    training=drl.TrainingSettings(num_steps=2, evaluate_every=2, batch_size=16),
)
FEW = ConditionalSettings(num_particles=8, num_final_steps=8)
FEW_AIS = AISSettings(num_particles=8, num_replicates=2, num_transitions=1, num_pilot_particles=8)
FEW_PATHS = SandwichSettings(
    num_particles=8, num_replicates=2, num_mixing_steps=2, steps_per_level=2, path_steps_per_level=2, num_transitions=1
)


@pytest.fixture(scope="module", autouse=True)
def one_order_of_sums():
    """On the CPU a mixture evaluates many rows in another order and precision than on a card: here as on a card."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gaussian_mixture, "MOST_MATRICES", 0)
        yield


@pytest.fixture(scope="module")
def near(one_order_of_sums, short_paths):
    """A fit on the CPU."""
    return drl.fit("eight_gaussians", seed=0, settings=SETTINGS, progress=False)


def assert_same(found, expected):
    """On the CPU, and equal: the same operations on the same numbers, but for sums that a card's path orders otherwise
    (float32, short chains: 1e-4)."""
    assert type(found) is torch.Tensor
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.fixture
def chains(monkeypatch):
    """Where the rows stood at which gradients of a model were asked for."""
    places, plain = set(), drl.EnergySequence.log_density_at

    def watched(self, x, *rest):
        if x.requires_grad:
            places.add(x.device.type)
        return plain(self, x, *rest)

    monkeypatch.setattr(drl.EnergySequence, "log_density_at", watched)
    return places


def labelled_pictures(folder):
    rows = torch.randint(200, (96, 4, 4), generator=seeded_generator(0)).to(torch.uint8)
    np.savez(folder / "pictures.npz", x_train=rows.numpy(), y_train=(torch.arange(96) % 2).numpy())
    return drl.load_dataset(folder / "pictures.npz", seed=0)


def with_holes(_):
    rows = np.random.default_rng(0).normal(size=(100, 2))
    rows[::5, 0] = np.nan
    return drl.load_dataset(rows, missing="draw")


def image_settings():
    return settings_for("cifar10_cdrl", network={"num_classes": 2})


def many_settings():
    training = dataclasses.replace(SETTINGS.training, num_shards=2)
    return dataclasses.replace(SETTINGS, num_networks=2, selection="last", training=training)


FITS = {
    "holes, members and shards": (with_holes, many_settings),
    "labelled images": (labelled_pictures, image_settings),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_a_fit_stays_on_its_device_and_gives_what_the_cpu_gives(name, chains, tmp_path):
    """Chains too, but for those that move the cells missing in a table."""
    data, settings = FITS[name][0](tmp_path), FITS[name][1]()
    expected = drl.fit(data, seed=0, settings=settings, progress=False)
    chains.clear()
    with PretendedDevice():
        density = drl.fit(data, seed=0, settings=settings, progress=False, device=CARD)
        places = {tensor.device.type for tensor in density.model.state_dict().values()}
        assert places == {CARD.type}
        assert chains == {CARD.type} | ({"cpu"} if name.startswith("holes") else set())
        back = density.to("cpu").model.state_dict()
        told = density.guided(1, seed=0).pool if "labelled" in name else None
    for key, value in expected.model.state_dict().items():
        assert_same(back[key], value)
    assert_same(density.pool, expected.pool)
    assert told is None or torch.equal(told, expected.guided(1, seed=0).pool)
    assert_same(density.estimate.log_weights, expected.estimate.log_weights)


def holed(pool):
    rows = pool[:4].clone()
    rows[:, 0] = float("nan")
    return rows


def drawn(density, method):
    found = density.draw(4, settings=DrawSettings(method, num_steps=20, num_chain_steps=4), seed=3)
    assert all(type(values) is torch.Tensor for values in found.stats.values())
    return found.draws


def reconstructed(density, method):
    noise, y = (0.1 if method == "posterior" else None), density.pool[0, :1].double()
    sizes = {"annealing": FEW_AIS} if method == "posterior" else {"num_steps": 5}
    settings = ReconstructSettings(method, **sizes)
    mask = Mask(torch.tensor([True, False]))
    found = density.reconstruct(mask, y, noise=noise, num_samples=4, settings=settings, seed=0)
    return found.draws


SMALLEST_STUDENT = DistillSettings("em", num_updates=1, width=4, num_warm_updates=1)


def distilled(density, method):
    own = {"mmd": {"num_calls": 2}, "em": {"num_corrections": 2, "width": 8, "num_warm_updates": 1}}
    settings = DistillSettings(method, num_updates=2, batch_size=8, **own[method])
    rows = density.pool if method == "mmd" else None
    return density.distill(rows, settings=settings, seed=0).sample(4, seed=3)


def evaluated(density):
    report = evaluate(density, density.pool[:16], settings=FEW_PATHS, num_chain_steps=8, seed=0)
    others = report.tree["other_densities"]["mean_log_likelihood"].values
    return torch.as_tensor([report.log_z, report.log_z_lower, *others])


def diagnosed(density, **options):
    settings = DiagnoseSettings(num_steps=100, num_chains=8, has_tempering=False, **options)
    found = density.diagnose(density.pool, settings=settings, seed=0)
    return torch.as_tensor([found["min_ess"], found["drift"], found["distance"], found["rank_p_value"]])


def tempered(density):
    settings = TemperingSettings(num_sweeps=4, num_pilot_sweeps=6, num_pilot_levels=3)
    return run_tempering(density.model, 4, settings=settings, generator=seeded_generator(0)).draws.cpu()


USES = {
    "log_prob": lambda d: d.log_prob(d.pool),
    "log_prob of rows on the device": lambda d: d.log_prob(d.pool.to(d.model.device)),
    "distribution": lambda d: d.distribution().log_prob(d.pool[:3].to(d.model.device)).cpu(),
    "distribution's draws": lambda d: d.distribution().sample((20,)),
    "sample": lambda d: d.sample(4, seed=3),
    "statistics of draws": lambda d: d.run(4, seed=3).stats["acceptance_rate"],
    **{m: lambda d, m=m: drawn(d, m) for m in ("ancestral", "ddim", "predictor-corrector", "flow")},
    "evaluate": evaluated,
    "diagnose": diagnosed,
    "diagnose conditionals": lambda d: diagnosed(d, is_recovery=True),
    "tempered": tempered,
    "combine": lambda d: combine([d, d], weights=[0.6, 0.6], num_samples=4, settings=FEW_AIS, seed=0).draws,
    "outliers": lambda d: d.outlier_scores(d.pool).profile,
    "condition": lambda d: d.condition({0: 0.5}, normalize=True, seed=0, settings=FEW).log_prob(d.pool[:3, 1:]),
    "condition's draws": lambda d: d.condition({0: 0.5}, settings=FEW).sample((3,)),
    "marginal": lambda d: d.marginal([0], settings=FEW, seed=0).log_prob(d.pool[:3, :1]),
    "impute": lambda d: d.impute(holed(d.pool), num_samples=2, settings=FEW, seed=0).rows,
    "predict": lambda d: d.predict(holed(d.pool), 0, seed=0).quantiles,
    **{f"reconstruct {m}": lambda d, m=m: reconstructed(d, m) for m in ("posterior", "dps", "projected")},
    **{f"distill {m}": lambda d, m=m: distilled(d, m) for m in ("mmd", "em")},
    "level": lambda d: d.model.level(1.0).log_prob(d.pool[:3].float()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", USES)
def test_every_use_of_a_density_on_a_device_gives_what_the_cpu_gives(name, near, chains):
    torch.manual_seed(0)
    expected = USES[name](near)
    torch.manual_seed(0)
    chains.clear()
    with PretendedDevice():
        assert_same(USES[name](near.to(CARD)), expected)
    assert chains <= {CARD.type} or name == "combine"  # whose chains walk in data units


def test_a_density_moves_and_comes_from_its_folder(near, tmp_path):
    assert near.to(None) is near
    assert near.to("cpu") is near
    with PretendedDevice():
        far = near.to(CARD)
        far.distill(settings=SMALLEST_STUDENT, seed=0).save(far.save(tmp_path / "run"))
        again = drl.Density.load(tmp_path / "run", device=CARD)
        assert again.model.device == far.model.device == CARD
        assert next(load_generator(tmp_path / "run", device=CARD).network.parameters()).device == CARD
    assert near.model.device.type == "cpu"
    assert torch.equal(drl.Density.load(tmp_path / "run").log_prob(near.pool), near.log_prob(near.pool))
    with pytest.raises(ValueError, match="cannot be used"):
        drl.Density.load(tmp_path / "run", device="cuda:99")


def fresh_state(device):
    generator = seeded_generator(0)
    network = MLP(MLPSettings(2, width=8, num_blocks=1), generator=generator)
    model = drl.EnergySequence(drl.NoiseSchedule.log_spaced(2), network, (2,), generator=generator).to(device)
    return new_state(model, learning_rate=1e-2, weight_decay=0.0, average_decay=0.9, seed=0)


def train_to(state, num_steps):
    settings = TrainingSettings(num_steps=num_steps, evaluate_every=2, batch_size=8, warmup_steps=1, decay="constant")
    rows = torch.randn(16, 2, generator=seeded_generator(1))
    return train(
        state,
        RecoveryLikelihood(num_steps=2),
        lambda count, generator: rows[torch.randint(16, (count,), generator=generator)],
        settings=settings,
        evaluation=Evaluation(rows),
    )


@pytest.mark.parametrize("ends", [(CARD, "cpu"), ("cpu", CARD)], ids=["to the cpu", "from the cpu"])
def test_a_run_goes_on_on_another_device(ends):
    whole = train_to(fresh_state("cpu"), 4)
    with PretendedDevice():
        tensors, scalars = train_to(fresh_state(ends[0]), 2).to_tensors()
        resumed = fresh_state(ends[1])
        resumed.load_tensors({name: tensor.cpu() for name, tensor in tensors.items()}, scalars)
        train_to(resumed, 4)
        found = [parameter.detach().cpu() for parameter in resumed.model.parameters()]
    for one, other in zip(found, whole.model.parameters(), strict=True):
        assert_same(one, other.detach())
    assert torch.equal(resumed.generator.get_state(), whole.generator.get_state())


def test_memory_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (17, 100))
    assert available_memory(torch.device("cuda")) == 17
    assert available_memory(torch.device("cpu")) == pytest.approx(available_memory(), rel=0.5)


def test_every_command_on_a_density_has_the_option():
    assert {name for name, command in COMMANDS.items() if not issubclass(command.load(), OnDevice)} == {"report"}


ARGUMENTS = {
    "score": ["rows.csv"],
    "guide": ["1"],
    "impute": ["rows.csv"],
    "predict": ["rows.csv", "--column", "x0"],
    "reconstruct": ["measured.npz"],
    "sample --method generator": [],
}
LOADING = ["sample", "sample --method generator", "score", "impute", "predict", "distill", "reconstruct", "evaluate"]


@pytest.fixture(scope="module")
def folder(near, tmp_path_factory):
    """A run folder with a generator."""
    run = near.save(tmp_path_factory.mktemp("near") / "run")
    near.distill(settings=SMALLEST_STUDENT, seed=0).save(run)
    return run


@pytest.mark.parametrize("command", [*LOADING, "guide", "diagnose", "compare", "combine"])
def test_commands_load_onto_the_device(command, folder, tmp_path, capsys):
    name, *options = command.split()
    folders = [str(folder), str(tmp_path / "other")] if command == "compare" else [str(folder)]
    assert main([name, *folders, *ARGUMENTS.get(command, []), *options, "--device", "cuda:99"]) == 1
    assert "device 'cuda:99' cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["fit", "eight_gaussians"], ["demo"]], ids=" ".join)
def test_commands_fit_on_the_device(command, tmp_path, capsys):
    assert main([*command, "--out", str(tmp_path / "run"), "--device", "cuda:99"]) == 1
    assert "device 'cuda:99' cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card_gives_what_the_cpu_gives(near):
    """One density on both: float32 sums in another order (1e-3); and a fit that begins and ends on the card."""
    far = near.to("cuda")
    torch.testing.assert_close(far.log_prob(near.pool), near.log_prob(near.pool), rtol=1e-3, atol=1e-3)
    assert far.sample(8, seed=0).device.type == "cpu"
    assert np.isfinite(far.evaluate(near.pool, settings=FEW_PATHS).log_z)
    density = drl.fit("eight_gaussians", seed=0, settings=SETTINGS, progress=False, device="cuda")
    assert density.model.device.type == "cuda"
    assert bool(density.log_prob(near.pool).isfinite().all())
