"""Parallel tempering over noise levels: separated modes whose weights single-level chains cannot find."""

import dataclasses

import pytest
import torch

import drl_density as drl
from drl_density.mcmc import MALA, ULA, init_state, run_chain
from drl_density.samplers import TemperingSettings, run_tempering
from drl_density.samplers.tempering import Ladder, _joint_log_density, swap_neighbours
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator

SCHEDULE = drl.NoiseSchedule.log_spaced(8, sigma_min=0.05)
MEANS = torch.tensor([[-1.5, 0.0], [1.5, 0.5]], dtype=torch.float64)
SMALL = 0.03 * torch.eye(2, dtype=torch.float64)
SYSTEM = GaussianMixtureSequence(torch.tensor([0.2, 0.8]).double(), MEANS, torch.stack([SMALL, SMALL]), SCHEDULE)


@pytest.fixture(scope="module")
def tempered():
    """All ladders begin in the mode of weight 0.2."""
    generator = seeded_generator(3)
    start = MEANS[0] + 0.1 * torch.randn(64, 2, generator=generator, dtype=torch.float64)
    settings = TemperingSettings(num_sweeps=300)
    return start, run_tempering(SYSTEM.model, 64, initial=start, settings=settings, generator=generator)


def test_mode_weights_are_right_where_single_level_chains_are_wrong(tempered):
    start, found = tempered
    kernel = MALA(scale=torch.full((2,), 0.17, dtype=torch.float64))
    single = run_chain(
        kernel,
        lambda x: SYSTEM.model.log_density(x, 0),
        start,
        num_steps=900,
        step_size=0.8,
        generator=seeded_generator(4),
    )
    assert float((single.draws[..., 0] > 0).double().mean()) == 0.0
    late = found.draws[100:]
    assert_z((late[..., 0] > 0).double().mean(0), 0.8)
    parts = SYSTEM.marginal(0.0).component_distribution
    for sign, mean, variance in zip((-1, 1), parts.mean, parts.variance, strict=True):
        inside = (late[..., 0] * sign > 0).double()[..., None]
        residual = (late - mean) * inside
        assert_z(residual.mean(0), 0.0)
        assert_z((residual.square() - variance * inside).mean(0), 0.0)


def test_ladder_reaches_the_base_and_back(tempered):
    found = tempered[1]
    assert found.levels[0] == 0.0
    assert found.levels[-1] == 8.0
    assert float(found.swap_rates.min()) > 0.3
    assert float(found.restarts.double().mean()) > 10
    assert found.draws.shape == (300, 64, 2)
    torch.testing.assert_close(found.log_densities[-1], SYSTEM.model.log_density(found.draws[-1], 0))
    assert found.num_gradients > 300 * 3 * len(found.levels)
    assert found.barrier == pytest.approx(float((1 - found.swap_rates).sum()))


@pytest.mark.parametrize("scale", ["plain", "laid on"])
def test_a_swap_leaves_exact_draws_exact(scale):
    """Second moments of both levels after one swap of exact draws, by either map."""
    generator = seeded_generator(5)
    levels = (3.0, 4.0, 8.0)
    alpha = SCHEDULE.alpha_at(torch.tensor(levels, dtype=torch.float64))
    ratios = alpha[1:] / alpha[:-1] if scale == "laid on" else torch.ones(2, dtype=torch.float64)
    ones = torch.ones(3, dtype=torch.float64)
    ladder = Ladder(levels, torch.ones(3, 2).double(), ones, ratios)
    draws = [SYSTEM.sample(20_000, level, generator=generator) for level in levels[:2]]
    draws.append(torch.randn(20_000, 2, generator=generator, dtype=torch.float64))
    density = _joint_log_density(SYSTEM.model, levels, 20_000)
    state, is_swapped, _ = swap_neighbours(
        init_state(torch.cat(draws), density), density, ladder, torch.tensor([0]), generator
    )
    assert 0.1 < float(is_swapped.double().mean()) < 0.99
    after = state.position.reshape(3, 20_000, 2)
    for index, level in enumerate(levels[:2]):
        marginal = SYSTEM.marginal(level)
        assert_z(after[index], marginal.mean)
        assert_z((after[index] - marginal.mean).square(), marginal.variance)
        parts = marginal.component_distribution
        above = 0.5 * (1 + torch.erf(parts.mean[:, 0] / (2 * parts.variance[:, 0]).sqrt()))
        assert_z((after[index][:, 0] > 0).double(), float(SYSTEM.weights @ above))


def test_a_noisier_level_can_be_the_target():
    found = run_tempering(
        SYSTEM.model,
        48,
        level=3.0,
        settings=TemperingSettings(num_sweeps=150, num_pilot_sweeps=30),
        generator=seeded_generator(6),
    )
    marginal = SYSTEM.marginal(3.0)
    assert_z(found.draws.mean(0), marginal.mean)


WRONG = {
    "level": ({"level": 8.0}, "a level in"),
    "one ladder": ({"num_ladders": 1}, "at least 2 ladders"),
    "shape": ({"initial": torch.zeros(3, 2).double()}, "starting points of shape"),
    "sweeps": ({"settings": dataclasses.replace(TemperingSettings(), num_sweeps=1)}, "2 sweeps"),
}


def test_an_unadjusted_kernel_is_refused():
    with pytest.raises(ValueError, match="parallel tempering needs an adjusted kernel"):
        TemperingSettings(kernel=ULA())


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name):
    arguments, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        run_tempering(SYSTEM.model, **{"num_ladders": 4, **arguments})
