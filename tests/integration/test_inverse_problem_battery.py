"""What all samplers of inverse problems have in common: seeds, shapes, and checks of the number of draws."""

import dataclasses

import pytest
import torch

import drl_density as drl
from drl_density.inverse_problems import (
    ConditionalSettings,
    DenoisingErrors,
    DPSSettings,
    MeasuredRowSettings,
    MeasuredSettings,
    gaussian_likelihood,
    plan_conditional,
    sample_conditional,
    sample_dps,
    sample_measured,
    sample_measured_rows,
    sample_path,
    sample_posterior,
    sample_projected,
)
from drl_density.networks import MLP, MLPSettings
from drl_density.operators import GramBlocks, Mask
from drl_density.partition_function import sequence_path
from drl_density.samplers import DDIMSettings, PredictorCorrectorSettings
from drl_density.testing import seeded_generator

OPERATOR, Y = Mask(torch.tensor([True, False, False])), torch.ones(1, dtype=torch.float64)
AIS = drl.AISSettings(num_particles=16, num_replicates=2, num_pilot_particles=16)
SLICES = ConditionalSettings(num_particles=8, steps_per_level=1, num_final_steps=8)
WALK = DDIMSettings(num_steps=5, eta=1.0)
OVER_A_GAUSSIAN = drl.EnergySequence(drl.NoiseSchedule.log_spaced(4), MLP(MLPSettings(3)), (3,))
FEW_STEPS = MeasuredSettings(PredictorCorrectorSettings(WALK), num_final_steps=4)
GRAM, FEW = GramBlocks(OPERATOR, (3,)), MeasuredRowSettings(num_final_steps=4)
ERRORS = DenoisingErrors((8.0, 4.0, 0.0), 3 * (torch.zeros(3, 1),), 3 * (torch.full((3,), 0.2),))


def one_of_two(found):
    """The draws for the first of two measurements."""
    return dataclasses.replace(found, draws=found.draws[0])


def conditional(system, num_samples, generator):
    row, is_missing = torch.ones(1, 3, dtype=torch.float64), torch.tensor([[False, True, True]])
    draws = system.sample(64, 0, generator=generator)
    plan = plan_conditional(system.model, draws, row, is_missing, settings=SLICES, generator=generator)
    found = sample_conditional(
        system.model, row, is_missing, num_samples, plan=plan, settings=SLICES, generator=generator
    )
    return dataclasses.replace(found, draws=found.draws[0])


SAMPLERS = {
    "conditional": conditional,
    "dps": lambda system, count, generator: sample_dps(
        system.model, OPERATOR, Y, count, settings=DPSSettings(WALK), generator=generator
    ),
    "projected": lambda system, count, generator: sample_projected(
        system.model, OPERATOR, Y, count, settings=PredictorCorrectorSettings(WALK), generator=generator
    ),
    "measured": lambda system, count, generator: sample_measured(
        OVER_A_GAUSSIAN, OPERATOR, Y.float(), count, noise=0.5, settings=FEW_STEPS, generator=generator
    ),
    "measured_rows": lambda system, count, generator: one_of_two(
        sample_measured_rows(
            system.model, GRAM, torch.stack([Y, -Y]), count, errors=ERRORS, noise=0.5, settings=FEW, generator=generator
        )
    ),
    "posterior": lambda system, count, generator: sample_posterior(
        system.model,
        gaussian_likelihood(system.model, OPERATOR, Y, noise=0.5),
        count,
        settings=AIS,
        steps_per_level=1,
        num_final_steps=4,
        generator=generator,
    ),
    "path": lambda system, count, generator: sample_path(
        sequence_path(system.model, steps_per_level=1), count, settings=AIS, num_final_steps=4, generator=generator
    ),
}


@pytest.fixture(params=SAMPLERS)
def draw(request, correlated):
    return lambda num_samples, seed=0: SAMPLERS[request.param](correlated, num_samples, seeded_generator(seed)).draws


@pytest.mark.parametrize("num_samples", [1, 6])
def test_draws_have_one_row_per_sample(draw, num_samples):
    found = draw(num_samples)
    assert found.shape == (num_samples, 3)
    assert bool(found.isfinite().all())


def test_equal_seeds_give_equal_draws_and_others_others(draw):
    first = draw(4)
    torch.rand(3)
    assert torch.equal(draw(4), first)
    assert not torch.equal(draw(4, 1), first)


@pytest.mark.parametrize("num_samples", [0, 2.0], ids=str)
def test_counts_that_are_no_positive_integers_are_refused(draw, num_samples):
    with pytest.raises(ValueError, match="num_samples must be a positive integer"):
        draw(num_samples)


def test_a_path_needs_steps_at_its_end(correlated):
    with pytest.raises(ValueError, match="num_final_steps must be at least 1"):
        sample_path(sequence_path(correlated.model, steps_per_level=1), 3, settings=AIS, num_final_steps=0)
