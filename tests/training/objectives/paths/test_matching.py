"""Score matching with path increments: their definition, learning, and refusals."""

import pytest
import torch

from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings
from drl_density.schedule import NoiseSchedule
from drl_density.testing import seeded_generator
from drl_density.training import LevelParticles, PathMatching
from drl_density.training.objectives.paths.matching import step_chances
from drl_density.training.objectives.paths.steps import noised_pair
from tests.training.objectives.paths.sequences import STEP_SIZES, Wrong, base, sequence, with_tables


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


def test_steps_are_drawn_by_their_scatter():
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
