"""Particles of level 0: the gradient of the likelihood in closed form, learning, renewal, the state, and refusals."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from drl_density.bases import FactorAnalysers
from drl_density.model import EnergySequence
from drl_density.schedule import NoiseSchedule
from drl_density.testing import seeded_generator
from drl_density.training import LevelParticles, PathMatching, PathMeter, new_state
from drl_density.training.objectives.paths.particles import PARTICLES, STEP


class Shift(nn.Module):
    """The tilt a x_1, which moves a standard normal density by a along its first column."""

    has_bounded_growth = True

    def __init__(self, size):
        super().__init__()
        self.size = nn.Parameter(torch.tensor(size, dtype=torch.float64))

    def forward(self, x, log_snr):
        return self.size * x[:, 0] + 0.0 * log_snr


class Bump(Shift):
    """A tilt that is a near zero but for one place, two deviations from the mean."""

    def forward(self, x, log_snr):
        return self.size * torch.exp(-2 * (x - 1.4).square().sum(1)) + 0.0 * log_snr


def sequence(network):
    base = FactorAnalysers(torch.ones(1), torch.zeros(1, 2), torch.zeros(1, 2, 1), torch.ones(1, 2)).double()
    schedule = NoiseSchedule.log_spaced(3, sigma_min=0.3)
    return EnergySequence(schedule, network, (2,), base=base, dtype=torch.float64)


def rows(count, mean=0.0):
    return mean + torch.randn(count, 2, generator=seeded_generator(1), dtype=torch.float64)


def test_the_gradient_is_that_of_the_likelihood():
    """p_0 is N(a, 1) in the first column: the derivative of -log p_0 in a is a less the mean of the noised rows."""
    model, x, count = sequence(Shift(0.5)), rows(2000, mean=0.8), 4000
    exact = torch.randn(count, 2, generator=seeded_generator(2), dtype=torch.float64)
    exact[:, 0] += 0.5
    drawn = {PARTICLES: exact, STEP: torch.tensor(1.0, dtype=torch.float64)}
    particles = LevelParticles(num_particles=count, num_moved=count, renewed_share=0.0)
    particles(model, x, drawn, generator=seeded_generator(3)).backward()
    alpha, sigma = float(model.schedule.alpha_at(0)), float(model.schedule.sigma_at(0))
    error = math.sqrt(1 / count + sigma**2 / len(x))
    assert abs(float(model.network.size.grad) - (0.5 - alpha * float(x[:, 0].mean()))) < 4 * error
    assert not torch.equal(drawn[PARTICLES], exact)
    assert 0.9 < float(drawn[PARTICLES][:, 1].var()) < 1.1  # the chains leave p_0 as it is


def test_mass_that_no_row_visits_is_found_and_taken_away():
    """Rows are draws of the base, and 0.2 of them lie where the bump is: the best size is 0."""
    network, drawn, generator = Bump(3.0), {}, seeded_generator(4)
    model, particles = sequence(network), LevelParticles(num_particles=128, num_moved=64, num_steps=3)
    optimizer = torch.optim.SGD(network.parameters(), 4.0)
    x = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    sizes = []
    for _ in range(60):
        optimizer.zero_grad()
        chosen = x[torch.randint(len(x), (128,), generator=generator)]
        particles(model, chosen, drawn, generator=generator).backward()
        optimizer.step()
        sizes.append(float(network.size.detach()))
    assert abs(sum(sizes[40:]) / 20) < 0.6
    assert float(drawn[STEP]) != float(model.schedule.sigma_at(0))  # adapted


def test_some_of_the_moved_particles_start_again_at_rows_or_at_the_base():
    particles = LevelParticles(num_particles=400, num_moved=200, num_steps=1, renewed_share=0.5, base_share=0.4)
    far = torch.full((400, 2), 9.0, dtype=torch.float64)
    drawn = {PARTICLES: far, STEP: torch.tensor(1e-4, dtype=torch.float64)}
    x = torch.full((8, 2), -9.0, dtype=torch.float64)
    model = sequence(Shift(0.0))
    particles.move(model, x, drawn, generator=seeded_generator(5))
    place = drawn[PARTICLES].mean(1)
    at_base, at_rows = int((place.abs() < 5).sum()), int((place < -5).sum())
    assert abs(at_base - 40) < 4 * math.sqrt(200 * 0.2 * 0.8)
    assert abs(at_rows - 60) < 4 * math.sqrt(200 * 0.3 * 0.7)
    assert int((drawn[PARTICLES] != far).any(1).sum()) == 200
    assert float(far.min()) == 9.0  # tables that others hold are not written to
    alone = EnergySequence(model.schedule, Shift(0.0), (2,), has_base=False)
    with pytest.raises(ValueError, match="this sequence has none"):
        particles.begin(alone, x, 3)


def test_particles_are_part_of_a_state():
    base = sequence(Shift(0.1)).base
    objective = PathMatching(steps_per_level=1, particles=LevelParticles(num_particles=32, num_moved=8))

    def fresh():
        model = EnergySequence(NoiseSchedule.log_spaced(3, sigma_min=0.3), Shift(0.1), (2,), base=base)
        state = new_state(model, learning_rate=1e-2, weight_decay=0.0, average_decay=0.9, seed=0)
        return state, dataclasses.replace(objective, tables=lambda: state.drawn)

    def advance(state, objective, count):
        for _ in range(count):
            state.optimizer.zero_grad()
            value = objective(state.model, rows(16), state.step_sizes, generator=state.generator)
            value.loss.backward()
            state.optimizer.step()
        return value

    state, own = fresh()
    PathMeter(own).begin(state, rows(32))
    assert set(advance(state, own, 3).parts) == {"score_matching", "increments", "particles"}
    again, theirs = fresh()
    again.load_tensors(*state.to_tensors())
    advance(state, own, 3)
    advance(again, theirs, 3)
    assert torch.equal(state.drawn[PARTICLES], again.drawn[PARTICLES])
    assert torch.equal(state.drawn[STEP], again.drawn[STEP])
    assert torch.equal(state.model.network.size, again.model.network.size)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="cannot move 20 of 10 particles"):
        LevelParticles(num_particles=10, num_moved=20)
    for wrong in ({"weight": -1.0}, {"num_steps": 0}, {"renewed_share": 1.0}):
        with pytest.raises(ValueError, match="must"):
            LevelParticles(**wrong)
