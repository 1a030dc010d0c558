"""Fit, distribution, save, load, resume: the object a user holds."""

import dataclasses
import sys

import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.density import Density
from drl_density.density.fitting.bases import choose_bases
from drl_density.density.fitting.forecast import seconds_per_step, within_time
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.fitting.table import Table, prepare_table
from drl_density.errors import RunFolderError
from drl_density.testing import assert_z


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


def test_ensembles_average_energies(tiny_data, tiny_settings, tmp_path):
    settings = dataclasses.replace(tiny_settings, num_networks=2, schedule=drl.LogSpacedSchedule(num_levels=4))
    density = drl.fit(tiny_data, seed=0, settings=settings, progress=False)
    density.save(tmp_path / "run")
    x = tiny_data.test[:5]
    assert torch.equal(Density.load(tmp_path / "run").log_prob(x), density.log_prob(x))
    scores = density.provenance.best_score
    assert set(scores) == {"gaussian-0", "gaussian-1"}
    assert density.provenance.selected_member in (*scores, "average")


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
