"""Fit, distribution, save, load, resume: the object a user holds."""

import copy
import dataclasses
import math
import pickle
import shutil
import sys

import pandas as pd
import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.density import Density
from drl_density.density.ensemble import join
from drl_density.density.fitting.bases import choose_bases
from drl_density.density.fitting.forecast import seconds_per_step, within_time
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.fitting.table import Table, prepare_table
from drl_density.density.model_state import members_from_values, members_to_values
from drl_density.errors import RunFolderError, UnreliableEstimateWarning, Verdict
from drl_density.networks import MLP, MLPSettings
from drl_density.run_folder import RunFolder
from drl_density.samplers import ProgressiveSampler
from drl_density.testing import assert_z


def test_distribution_is_normalized_and_in_data_units(tiny_density, tiny_data):
    target = tiny_density.distribution()
    assert target.is_normalized
    assert "estimated" in repr(target)
    x = tiny_data.test[:10]
    torch.testing.assert_close(target.log_prob(x), tiny_density.log_prob(x), rtol=1e-6, atol=1e-6)
    u = tiny_density.transform(x)
    by_hand = (
        tiny_density.model.log_density(u, 0)
        + tiny_density.transform.log_abs_det_jacobian(x, u)
        - tiny_density.estimate.log_z
    )
    torch.testing.assert_close(target.log_prob(x), by_hand, rtol=1e-6, atol=1e-6)


def test_it_integrates_to_one(tiny_density):
    """Quadrature over the plane agrees with the estimate's own standard error (and a grid error of 1e-3)."""
    ticks = torch.linspace(-16, 40, 700, dtype=torch.float64)
    first = torch.linspace(-14, 14, 700, dtype=torch.float64)
    mass = tiny_density.log_prob(torch.cartesian_prod(first, ticks)).exp().sum() * (28 / 699) * (56 / 699)
    assert abs(math.log(float(mass))) < 5 * tiny_density.estimate.standard_error + 1e-3


def test_weights_of_a_distribution_are_frozen_copies(tiny_density, tiny_data):
    density = dataclasses.replace(tiny_density, model=copy.deepcopy(tiny_density.model))
    target = density.distribution()
    before = target.log_prob(tiny_data.test[:3])
    with torch.no_grad():
        density.model.network.readout.bias.add_(1.0)
    assert torch.equal(target.log_prob(tiny_data.test[:3]), before)


def test_small_requests_depend_on_the_generator_alone(tiny_density):
    """Draws are distinct, differ between seeds, and are the same for copies and for the same object again."""
    target = tiny_density.distribution()
    draws = Predictive(lambda: pyro.sample("x", tiny_density.distribution()), num_samples=50)()["x"]
    assert len(torch.unique(draws.reshape(50, 2), dim=0)) == 50
    runs = []
    for seed, source in ((1, target), (1, target), (1, copy.deepcopy(target)), (1, pickle.loads(pickle.dumps(target)))):
        pyro.set_rng_seed(seed)
        runs.append(source.sample((5,)))
    assert all(torch.equal(runs[0], other) for other in runs[1:])
    pyro.set_rng_seed(2)
    assert not torch.equal(runs[0], target.sample((5,)))
    pair = [target.run((5,), generator=torch.Generator().manual_seed(seed)).draws for seed in (3, 3, 4)]
    assert torch.equal(pair[0], pair[1])
    assert not torch.equal(pair[0], pair[2])
    assert target.sample((0,)).shape == (0, 2)


def test_large_requests_run_the_sampler(tiny_density):
    target = tiny_density.distribution()
    assert target.sample((50,)).shape == (50, 2)
    assert target.last_result.stats["acceptance_rate"].shape[1] == 50


def test_nuts_starts_without_running_a_sampler(tiny_density, monkeypatch):
    target = tiny_density.distribution()
    pyro.set_rng_seed(0)
    mcmc = MCMC(NUTS(lambda: pyro.sample("x", target)), num_samples=2, warmup_steps=2, disable_progbar=True)
    monkeypatch.setattr(ProgressiveSampler, "__call__", lambda *_: pytest.fail("ran the progressive sampler"))
    mcmc.run()
    assert mcmc.get_samples()["x"].shape == (2, 2)


def test_draws_follow_the_generator(tiny_density):
    runs = [tiny_density.sample(20, seed=4) for _ in range(2)]
    assert torch.equal(*runs)
    assert runs[0].dtype == torch.float64


def test_save_and_load(tiny_density, tiny_data, tmp_path):
    tiny_density.save(tmp_path / "run")
    again = Density.load(tmp_path / "run")
    assert torch.equal(again.log_prob(tiny_data.test), tiny_density.log_prob(tiny_data.test))
    assert again.baselines == tiny_density.baselines
    assert again.columns == tiny_density.columns
    assert again.settings == tiny_density.settings
    draws = [d.sample(5, seed=0) for d in (again, tiny_density)]
    assert torch.equal(*draws)
    with pytest.raises(RunFolderError, match="--force"):
        tiny_density.save(tmp_path / "run")


def test_an_interrupted_fit_resumes_to_the_same_bits(tiny_data, tiny_density, tiny_settings, tmp_path, monkeypatch):
    from drl_density.density.fitting import run

    def save_then_stop(self, name):
        save = store_saver(self, name)

        def wrapped(tensors, scalars):
            save(tensors, scalars)
            raise KeyboardInterrupt

        return wrapped

    store_saver = run.TrainingFolder.saver
    monkeypatch.setattr(run.TrainingFolder, "saver", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        drl.fit(tiny_data, seed=0, settings=tiny_settings, out=tmp_path / "run", progress=False)
    monkeypatch.undo()
    with pytest.raises(RunFolderError, match="not finished"):
        Density.load(tmp_path / "run")
    density = drl.fit(tiny_data, seed=0, out=tmp_path / "run", resume=True, progress=False)
    for name, value in tiny_density.model.state_dict().items():
        assert torch.equal(value, density.model.state_dict()[name]), name
    assert density.estimate.log_z == tiny_density.estimate.log_z
    monkeypatch.setattr(
        sys.modules["drl_density.density.fitting.fit"], "_finish", lambda *_: pytest.fail("finished again")
    )
    again = drl.fit(tiny_data, seed=0, out=tmp_path / "run", resume=True, progress=False)
    assert torch.equal(again.pool, density.pool)
    density.save(tmp_path / "copy")
    with pytest.raises(RunFolderError, match="not fitted there"):
        drl.fit(tiny_data, seed=0, out=tmp_path / "copy", resume=True, progress=False)
    with pytest.raises(RunFolderError, match="begun with seed 0, now asked for 1"):
        drl.fit(tiny_data, seed=1, out=tmp_path / "run", resume=True, progress=False)
    others = drl.load_dataset(tiny_data.train.numpy() + 1)
    with pytest.raises(RunFolderError, match="begun on other rows"):
        drl.fit(others, seed=0, out=tmp_path / "run", resume=True, progress=False)


def test_weights_of_another_width_are_refused(tiny_density, tmp_path):
    other = copy.deepcopy(tiny_density)
    other.model.network = MLP(dataclasses.replace(other.model.network.settings, width=32))
    for name, density in (("run", tiny_density), ("other", other)):
        density.save(tmp_path / name)
    shutil.copy(tmp_path / "other" / "weights.safetensors", tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"run: the run is damaged or of another version.*size mismatch"):
        Density.load(tmp_path / "run")


def test_ensembles_average_energies(tiny_data, tiny_settings, tmp_path):
    settings = dataclasses.replace(tiny_settings, num_networks=2, schedule=drl.LogSpacedSchedule(num_levels=4))
    density = drl.fit(tiny_data, seed=0, settings=settings, progress=False)
    density.save(tmp_path / "run")
    x = tiny_data.test[:5]
    assert torch.equal(Density.load(tmp_path / "run").log_prob(x), density.log_prob(x))
    scores = density.provenance.best_score
    assert set(scores) == {"gaussian-0", "gaussian-1"}
    assert density.provenance.selected_member in (*scores, "average")


def test_average_of_members_is_the_mean_of_their_energies():
    models = []
    for seed, spread in enumerate((2 * torch.eye(3), 0.5 * torch.ones(3))):
        generator = torch.Generator().manual_seed(seed)
        base = NoisedGaussianMixture(torch.ones(1), torch.full((1, 3), float(seed)), spread[None])
        network = MLP(MLPSettings(3, width=8), generator=generator)
        torch.nn.init.normal_(network.readout.weight, generator=generator)
        models.append(drl.EnergySequence(drl.NoiseSchedule.log_spaced(3), network, (3,), base=base))
    joined = join(models)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(5))
    mean = torch.stack([model.log_density(x, 1) for model in models]).mean(0)
    torch.testing.assert_close(joined.log_density(x, 1), mean)
    assert joined.is_integrable
    values = members_to_values(joined)
    again = members_from_values(values, joined.schedule)
    again.load_state_dict(joined.state_dict())
    assert torch.equal(again.log_density(x, 1), joined.log_density(x, 1))


def test_damaged_folders_are_refused(tiny_density, tmp_path):
    folder = tmp_path / "run"
    tiny_density.save(folder)
    values = RunFolder(folder).read_json("settings.json")
    del values["plan"]
    RunFolder(folder).write_json("settings.json", values)
    with pytest.raises(RunFolderError, match="damaged or of another version"):
        Density.load(folder)


def test_an_unreliable_estimate_is_told(tiny_density):
    doubtful = dataclasses.replace(tiny_density.estimate, verdict=Verdict.UNRELIABLE, advice="do more")
    with pytest.warns(UnreliableEstimateWarning, match="do more"):
        dataclasses.replace(tiny_density, estimate=doubtful).distribution()


def test_below_the_floor_is_said(tiny_density):
    low = dataclasses.replace(tiny_density.baselines, model=-99.0)
    assert "FAILURE" in dataclasses.replace(tiny_density, baselines=low).summary()
    assert "log Z" in tiny_density.summary()


@pytest.mark.filterwarnings("ignore:max_minutes leaves:drl_density.errors.DRLDensityWarning")
def test_time_limits_cut_the_steps(tiny_data, tiny_settings):
    training = drl.TrainingSettings(num_steps=10**6, evaluate_every=20)
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, base="gaussian", training=training))
    assert seconds_per_step(plan) > 0
    forecast = within_time(plan, 0.01)
    assert forecast.seconds > 0
    assert 20 <= forecast.num_steps < 10**5
    assert plan.with_num_steps(forecast.num_steps).settings.training.num_steps == forecast.num_steps


def test_rounded_columns_are_dequantised_afresh():
    values = torch.randn(300, 2).mul(3).round().double()
    table = prepare_table(drl.load_dataset(values))
    assert isinstance(table, Table)
    rows = [table.batches(200, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    assert len(table.held_out(table.dataset.validation, seed=0)) >= 1024


def test_bounded_columns_have_a_bounded_support(tiny_settings):
    values = torch.rand(300, 2, dtype=torch.float64)
    data = drl.load_dataset(values, columns={"x0": {"lower": 0.0, "upper": 1.0}})
    density = drl.fit(data, seed=0, settings=tiny_settings, progress=False)
    draws = density.sample(200, seed=0)
    assert bool(((draws[:, 0] > 0) & (draws[:, 0] < 1)).all())
    outside = torch.tensor([[1.5, 0.5], [0.5, 0.5]], dtype=torch.float64)
    assert density.log_prob(outside)[0] == -math.inf
    assert bool(density.log_prob(outside)[1].isfinite())
    with pytest.raises(ValueError, match="support"):
        density.distribution().log_prob(outside)


def test_noise_of_level_zero_is_the_widest_that_costs_nothing():
    """Nearly collinear columns need little noise, round ones take the widest; a given value is kept."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(600, 5, generator=generator, dtype=torch.float64)
    narrow = wide[:, :1] + 0.03 * wide
    chosen = {name: choose_bases(rows[:400], rows[400:]) for name, rows in (("wide", wide), ("narrow", narrow))}
    assert chosen["wide"].sigma_min == 0.1
    assert chosen["narrow"].sigma_min < 0.05
    settings = drl.FitSettings()
    resolved = {name: settings.resolve(400, (5,), bases.sigma_min) for name, bases in chosen.items()}
    assert resolved["narrow"].schedule.num_levels > resolved["wide"].schedule.num_levels
    assert drl.LogSpacedSchedule(sigma_min=0.2).resolve(5, 0.03).sigma_min == 0.2


def test_bases_are_what_they_are_called():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 4, generator=generator, dtype=torch.float64)
    rows[:250] += 4.0
    chosen = choose_bases(rows[::2], rows[1::2])
    assert list(chosen.mixtures)[0] == "gaussian"
    assert len(chosen.mixtures) == 2
    assert max(chosen.scores, key=chosen.scores.get) == list(chosen.mixtures)[1]
    assert list(choose_bases(rows[::2], rows[1::2], kind="independent").mixtures) == ["independent"]
    with pytest.raises(ValueError, match="base must be one of"):
        choose_bases(rows, rows, kind="flow")


def test_row_weights_move_bases_selection_and_floor():
    """Rows of N(0, 1) weighed by exp(x) stand for N(1, 1): the base, the held-out rows and the floor follow the weights."""
    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "w": x[:, 0].exp()})
    data = drl.load_dataset(frame, split=drl.Split(weights="w"))
    assert data.validation_weights.shape == (len(data.validation),)
    table = prepare_table(data, "standardize").with_bases("gaussian")
    base = table.bases.mixtures["gaussian"]
    mean = (base.axes[0] @ base.centers[0]).double()
    rows = {"base": table.transform.inv(mean)}
    rows["held out"] = table.validation_rows(seed=0).mean(0)
    rows["floor"] = table.some_training_rows(generator=torch.Generator().manual_seed(2)).mean(0)
    # The effective number of rows, (sum w)^2 / sum w^2 = e^-1 of them: 1,200 of 3,200, and 150 of 400 held out.
    assert_z(rows["base"], torch.tensor([1.0, 0.0]), (1 / 1200 + 1 / 3200) ** 0.5)
    assert_z(rows["held out"], torch.tensor([1.0, 0.0]), (1 / 150 + 1 / 1024) ** 0.5)
    assert_z(rows["floor"], torch.tensor([1.0, 0.0]), (1 / 1200 + 1 / 3200) ** 0.5)
