"""Draws of a fitted density by any sampler."""

import dataclasses
from typing import get_args

import pytest
import torch

import drl_density as drl
from drl_density.density.derived import draw
from drl_density.density.derived.draw import DrawMethod
from drl_density.density.ensemble import join_on_base
from drl_density.errors import DataError
from drl_density.samplers import ShortRunSettings, sample_short_run
from drl_density.training import LangevinChains
from tests.density.tilted import tilted_density


@pytest.mark.parametrize("method", [method for method in get_args(DrawMethod) if method != "short-run"])
def test_every_method_draws_in_data_units(tiny_density, tiny_data, method):
    steps = 60 if method == "ancestral" else 10
    settings = drl.DrawSettings(method, num_steps=steps)
    found = tiny_density.draw(200, settings=settings, seed=0)
    assert found.draws.shape == (200, 2)
    gap = (found.draws.mean(0) - tiny_data.train.mean(0)).abs() / tiny_data.train.std(0)
    assert float(gap.max()) < 0.5
    again = tiny_density.draw(200, settings=settings, seed=0)
    assert torch.equal(found.draws, again.draws)


def test_without_a_method_draws_are_those_of_the_density(tiny_density):
    found = tiny_density.draw(20, seed=0)
    assert torch.equal(found.draws, tiny_density.sample(20, seed=0))
    assert found.sampler == "progressive"
    tilted = tilted_density()
    found = tilted.draw(20, seed=0)
    assert torch.equal(found.draws, tilted.sample(20, seed=0))
    assert found.sampler == "importance"
    walked = tilted.draw(20, settings=drl.DrawSettings("progressive", num_steps=2), seed=0)
    assert walked.sampler == "progressive"
    assert set(walked.stats) == {"acceptance_rate", "step_size"}


def trained_by(density, objective):
    """The density as if it had been trained by this objective at five levels."""
    schedule = drl.NoiseSchedule.log_spaced(5, sigma_min=0.1)
    model = drl.EnergySequence(schedule, density.model.network, (2,), base=density.model.base).requires_grad_(False)
    settings = dataclasses.replace(density.settings, objective=objective)
    made = dataclasses.replace(density.provenance, sigma_min=float(schedule.sigma[0]))
    return dataclasses.replace(density, model=model, settings=settings, provenance=made)


SHORT = drl.LangevinObjective(num_chain_steps=3, kernel="ula", langevin_factor=0.1)


@pytest.mark.parametrize("steps", [None, 5])
def test_short_runs_are_the_chains_of_training(tiny_density, steps):
    trained = trained_by(tiny_density, SHORT)
    found = trained.draw(20, settings=drl.DrawSettings("short-run", num_steps=steps), seed=0)
    chains = ShortRunSettings(LangevinChains(steps or 3, factor=0.1))
    by_hand = sample_short_run(trained.model, 20, settings=chains, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.draws, trained.to_points(by_hand.draws))
    assert (found.sampler, found.stats) == ("short-run", {})


def test_short_runs_to_a_noisier_level_keep_the_steps_of_training(tiny_density, monkeypatch):
    trained, made = trained_by(tiny_density, SHORT), []
    reported = dataclasses.replace(trained, model=trained.model.truncate(2))

    def short_run(model, count, *, settings, **_):
        made.append(settings.chains)
        return sample_short_run(model, count, settings=settings)

    monkeypatch.setattr(draw, "sample_short_run", short_run)
    reported.draw(3, settings=drl.DrawSettings("short-run"), seed=0)
    _, steps = reported.model.schedule.langevin_steps(made[0].factor)
    torch.testing.assert_close(steps, trained.model.schedule.langevin_steps(0.1)[1][2:])


def test_short_runs_of_a_density_without_such_chains(tiny_density):
    with pytest.raises(DataError, match='objective "adjusted": those of "langevin" and "cooperative" have'):
        tiny_density.draw(3, settings=drl.DrawSettings("short-run"))


def test_short_runs_of_an_average(tiny_density):
    trained = trained_by(tiny_density, SHORT)
    average = join_on_base([trained.model, trained.model], trained.model.base)
    with pytest.raises(DataError, match="this density averages 2 networks, by whose mean no chain was trained"):
        dataclasses.replace(trained, model=average).draw(3, settings=drl.DrawSettings("short-run"))


def test_wrong_methods(tiny_density):
    with pytest.raises(ValueError, match="num_steps belongs to a method"):
        drl.DrawSettings(num_steps=3)
    with pytest.raises(ValueError, match="without a method there is no eta"):
        drl.DrawSettings(eta=0.5)
    with pytest.raises(ValueError, match="method must be one of .progressive"):
        drl.DrawSettings("gan")
    with pytest.raises(ValueError, match="flow has no eta"):
        drl.DrawSettings("flow", eta=0.5)
    with pytest.raises(ValueError, match="or more, or use DDIM"):
        tiny_density.draw(3, settings=drl.DrawSettings("ancestral", num_steps=2))
    with pytest.raises(ValueError, match="eta must lie"):
        tiny_density.draw(3, settings=drl.DrawSettings("ddim", eta=2.0))
