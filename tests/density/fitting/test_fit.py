"""Fits: interrupted and resumed, and of several members."""

import dataclasses
import sys

import pytest
import torch

import drl_density as drl
from drl_density import (
    AdjustedObjective,
    LinearBetaSchedule,
)
from drl_density.density import Density
from drl_density.errors import DataError, RunFolderError
from drl_density.schedule import NoiseSchedule
from tests.conftest import short_annealing


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
    training = dataclasses.replace(tiny_settings.training, num_steps=6, evaluate_every=3)
    small = dataclasses.replace(tiny_settings, base="gaussian", num_particles=16, training=training)
    settings = dataclasses.replace(small, num_networks=2, schedule=drl.LogSpacedSchedule(num_levels=4))
    with short_annealing():
        density = drl.fit(tiny_data, seed=0, settings=settings, progress=False)
    density.save(tmp_path / "run")
    x = tiny_data.test[:5]
    assert torch.equal(Density.load(tmp_path / "run").log_prob(x), density.log_prob(x))
    scores = density.provenance.best_score
    assert set(scores) == {"gaussian-0", "gaussian-1"}
    assert density.provenance.selected_member in (*scores, "average")


def test_a_fit_on_the_papers_six_levels(tiny_data, tiny_settings):
    """Six levels, noise-started unadjusted chains: trained, normalised, sampled."""
    settings = dataclasses.replace(
        tiny_settings,
        base="gaussian",
        num_particles=16,
        schedule=LinearBetaSchedule(),
        objective=AdjustedObjective(num_chain_steps=2, kernel="ula", noisier_share=1.0, chain_step_size=0.1),
        training=dataclasses.replace(tiny_settings.training, num_steps=6, evaluate_every=3),
    )
    with short_annealing():
        density = drl.fit(tiny_data, seed=0, settings=settings, progress=False)
    assert float(density.model.schedule.sigma[-1]) == float(NoiseSchedule.linear_beta().sigma[-1])
    assert bool(torch.isfinite(density.log_prob(tiny_data.test)).all())
    assert density.settings.schedule.num_levels == 6


@pytest.mark.parametrize("minutes", [0, -1.0, float("nan"), "1"])
def test_no_time_is_refused_before_anything_is_written(tiny_data, tmp_path, minutes):
    with pytest.raises(DataError, match="positive number"):
        drl.fit(tiny_data, seed=0, out=tmp_path / "run", max_minutes=minutes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("settings", ["pixels", {"base": "gaussian"}])
def test_settings_of_another_type_are_refused(tiny_data, settings):
    with pytest.raises(DataError, match=r"settings must be a FitSettings, got .*preset\(name\)"):
        drl.fit(tiny_data, seed=0, settings=settings)


@pytest.mark.filterwarnings("ignore:max_minutes leaves:drl_density.errors.DRLDensityWarning")
def test_a_limit_without_time_to_train_reports_the_reference(tiny_data, tiny_settings, tmp_path):
    """Its log Z is 0 exactly, and the report says why there is no tilt."""
    settings = dataclasses.replace(
        tiny_settings,
        base="gaussian",
        objective=drl.ContrastObjective(num_samples=1000),
        network=drl.ColumnNetwork(width=8),
    )
    fitted = drl.fit(tiny_data, seed=0, settings=settings, max_minutes=1e-4, out=tmp_path / "run", progress=False)
    for density in (fitted, Density.load(tmp_path / "run")):
        made = density.provenance
        assert (made.steps_done, made.is_untrained, density.estimate.log_z) == (0, True, 0.0)
        assert "without a tilt: max_minutes left no time to train it" in made.untrained_remark
        assert [stage.gain for stage in made.stages] == [0.0, 0.0]
        assert "in model space, no tilt: max_minutes left no time to train it" in density.summary()
    u, jacobian = fitted.transform.with_log_jacobian(tiny_data.test)
    with torch.no_grad():
        reference = fitted.model.base_at(u.float(), fitted.model.schedule.log_snr_at(0).float()) + jacobian
    torch.testing.assert_close(fitted.log_prob(tiny_data.test).double(), reference.double(), rtol=1e-5, atol=1e-5)
