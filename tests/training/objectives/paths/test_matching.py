"""Score matching with path increments: their definition, an exact model, learning, and refusals."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from drl_density.bases import FactorAnalysers
from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings
from drl_density.schedule import NoiseSchedule
from drl_density.testing import seeded_generator
from drl_density.training import LevelParticles, PathMatching, PathMeter, new_state
from drl_density.training.objectives.paths.matching import SCATTER, VARIANCES, step_chances
from drl_density.training.objectives.paths.steps import noised_pair

STEP_SIZES = torch.ones(4)


def base():
    generator = seeded_generator(0)
    means = 1.5 * torch.randn(2, 6, generator=generator)
    return FactorAnalysers(
        torch.tensor([0.6, 0.4]), means, 0.5 * torch.randn(2, 6, 2, generator=generator), 0.2 * torch.ones(2, 6)
    )


class Wrong(nn.Module):
    """A tilt of one column whose size jumps up and down between the levels: no sequence of noised densities has one."""

    has_bounded_growth = True

    def __init__(self):
        super().__init__()
        self.size = nn.Parameter(torch.tensor(1.0))

    def forward(self, x, log_snr):
        return self.size * torch.sin(6 * log_snr) * x[:, 0] + 0.0 * log_snr


def sequence(network=None, num_levels=4):
    network = MLP(MLPSettings(6, width=8), generator=seeded_generator(1)) if network is None else network
    return EnergySequence(NoiseSchedule.log_spaced(num_levels, sigma_min=0.2), network, (6,), base=base())


def measured(model, objective, num_rows=256):
    meter = PathMeter(objective, most_rows=num_rows)
    record = meter(model, base().sample(num_rows, generator=seeded_generator(2)), STEP_SIZES)
    return meter, record


def with_tables(model, objective):
    state = new_state(model, learning_rate=1e-2, weight_decay=0.0, average_decay=0.9, seed=0)
    meter, _ = measured(model, objective)
    meter.redraw(state)
    return dataclasses.replace(objective, tables=lambda: state.drawn), state


def test_an_increment_is_the_ratio_that_it_is_named_after():
    model, objective = sequence(Wrong()), PathMatching(steps_per_level=2)
    x, step = base().sample(9, generator=seeded_generator(3)), objective.step(model, 3)
    assert (step.cleaner, step.noisier) == (1.5, 2.0)
    variances = 0.1 + torch.rand(6, generator=seeded_generator(4))
    found = objective.increments(model, x, step, variances, generator=seeded_generator(5))
    cleaner, noisier = noised_pair(x, step, seeded_generator(5))
    clean = model.denoise(noisier, 2.0)
    first, second = step.factors
    forward = torch.distributions.Normal(step.scale * cleaner, step.noise).log_prob(noisier).sum(1)
    mean = first * noisier + second * clean
    backward = torch.distributions.Normal(mean, variances.sqrt()).log_prob(cleaner).sum(1)
    expected = model.log_density(cleaner, 1.5) - model.log_density(noisier, 2.0) + forward - backward
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_mean_of_the_reverse_step_is_bayes_rule():
    """The posterior of x_t given x_u and the clean row, from the product of two normal densities."""
    model, objective = sequence(), PathMatching(steps_per_level=1)
    step = objective.step(model, 1)
    precision = 1 / step.sigmas[0] ** 2 + step.scale**2 / step.noise**2
    first, second = step.factors
    assert abs(step.variance - 1 / precision) < 1e-9
    assert abs(first - step.scale / step.noise**2 / precision) < 1e-9
    assert abs(second - step.alphas[0] / step.sigmas[0] ** 2 / precision) < 1e-9


def test_increments_of_the_exact_model_scatter_little_and_those_of_a_wrong_one_much():
    objective = PathMatching(steps_per_level=4)
    _, exact = measured(sequence(), objective)  # a new network is zero, and the base is exact at every level
    _, wrong = measured(sequence(Wrong()), objective)
    assert exact["validation_scatter"] < 1.5
    assert wrong["validation_scatter"] > 2 * exact["validation_scatter"]
    assert wrong["validation_score_matching"] > exact["validation_score_matching"]
    assert objective.num_steps(sequence()) == 12
    levels = exact["level_scatter"]
    assert len(levels) == 4
    assert math.isnan(levels[3])  # no step leads on from the topmost level
    assert sum(value**2 for value in levels[:3]) == pytest.approx(exact["validation_scatter"] ** 2)


def test_training_makes_a_wrong_tilt_small():
    network = Wrong()
    objective, _ = with_tables(sequence(network), PathMatching(particles=LevelParticles(0.0)))
    model, generator = sequence(network), seeded_generator(6)
    optimizer = torch.optim.Adam(network.parameters(), 0.1)
    for _ in range(30):
        optimizer.zero_grad()
        x = base().sample(32, generator=generator)
        value = objective(model, x, STEP_SIZES, generator=generator)
        value.loss.backward()
        optimizer.step()
    assert set(value.parts) == {"score_matching", "increments"}
    assert abs(float(network.size.detach())) < 0.2


def test_tables_are_part_of_a_state_and_steps_are_drawn_by_them():
    objective, state = with_tables(sequence(), PathMatching(steps_per_level=2))
    assert state.drawn[VARIANCES].shape == (6, 6)
    assert state.drawn[SCATTER].shape == (6,)
    tensors, scalars = state.to_tensors()
    again = new_state(sequence(), learning_rate=1e-2, weight_decay=0.0, average_decay=0.9, seed=1)
    again.load_tensors(tensors, scalars)
    assert torch.equal(again.drawn[VARIANCES], state.drawn[VARIANCES])
    PathMeter(objective).begin(again, torch.zeros(4, 6))  # what is there is not measured again
    assert torch.equal(again.drawn[VARIANCES], state.drawn[VARIANCES])
    chances = step_chances(torch.tensor([0.0, 1.0, 3.0]))
    torch.testing.assert_close(chances, torch.tensor([0.1, 0.1 + 0.7 / 4, 0.1 + 2.1 / 4]).double())
    assert step_chances(torch.zeros(4)).tolist() == [0.25] * 4


def test_what_is_missing_is_named():
    rows = torch.zeros(8, 6)
    with pytest.raises(ValueError, match="not measured yet: measure them with a PathMeter"):
        PathMatching()(sequence(), rows, STEP_SIZES)
    with pytest.raises(ValueError, match="at least 4 rows in a batch, got 3"):
        PathMatching()(sequence(), rows[:3], STEP_SIZES)
    alone = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(6, width=8)), (6,), has_base=False)
    with pytest.raises(ValueError, match="this sequence has none"):
        PathMatching()(alone, rows, STEP_SIZES)
    assert set(PathMatching(increment_weight=0.0)(sequence(), rows, STEP_SIZES).parts) == {"score_matching"}
