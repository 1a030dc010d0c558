"""What all samplers have in common: one signature, shapes, seeds, callbacks, and checks of the number of draws."""

import inspect

import pytest
import torch

from drl_density import samplers
from drl_density.distributions import SampleResult
from drl_density.samplers import (
    AncestralSettings,
    DDIMSettings,
    FlowSettings,
    PredictorCorrectorSettings,
    ProgressiveSettings,
    RefinementSettings,
    ShortRunSettings,
    StepRecord,
    moving_average,
)
from drl_density.testing import GaussianMixtureSequence, seeded_generator
from drl_density.training import LangevinChains

MODEL = GaussianMixtureSequence.example(dim=3).model


def normal_points(count, generator):
    return torch.randn(count, 3, generator=generator, dtype=torch.float64)


SMALL = {
    "sample_ancestral": {"settings": AncestralSettings(20)},
    "sample_averaged": {"settings": DDIMSettings(5), "average": moving_average(3, 0.5)},
    "sample_ddim": {"settings": DDIMSettings(5, eta=0.5)},
    "sample_flow": {"settings": FlowSettings(5)},
    "sample_predictor_corrector": {"settings": PredictorCorrectorSettings(DDIMSettings(5, eta=1.0))},
    "sample_progressive": {"settings": ProgressiveSettings(steps_per_level=1, num_steps=2, num_final_steps=2)},
    "sample_refined": {"settings": RefinementSettings(num_steps=4, num_warmup=2), "initial": normal_points},
    "sample_level_zero": {},
    "sample_short_run": {"settings": ShortRunSettings(LangevinChains(num_steps=2))},
}
CHOOSING = "sample_level_zero"
"""Chooses one of the others by a plan, so it has no settings and no callback of its own."""
NAMES = sorted(name for name in samplers.__all__ if name.startswith("sample_"))


def test_every_sampler_is_here():
    assert sorted(SMALL) == NAMES


@pytest.fixture(params=NAMES)
def draw(request):
    """The sampler with small settings: ``draw(num_samples, seed, **more)``."""

    def draw(num_samples, seed=0, **more):
        sampler = getattr(samplers, request.param)
        return sampler(MODEL, num_samples, generator=seeded_generator(seed), **{**SMALL[request.param], **more})

    return draw


@pytest.mark.parametrize("name", NAMES)
def test_one_signature(name):
    parameters = inspect.signature(getattr(samplers, name)).parameters
    positional = [key for key, part in parameters.items() if part.kind is not part.KEYWORD_ONLY]
    assert positional == ["model", "num_samples"]
    for key in ("plan", "generator") if name == CHOOSING else ("settings", "generator", "on_step"):
        assert parameters[key].default is None


@pytest.mark.parametrize("num_samples", [1, 5])
def test_draws_have_one_row_per_sample(draw, num_samples):
    found = draw(num_samples)
    assert isinstance(found, SampleResult)
    assert found.draws.shape == (num_samples, 3)
    assert found.draws.dtype == MODEL.dtype
    assert bool(found.draws.isfinite().all())


def test_equal_seeds_give_equal_draws_and_others_others(draw):
    first = draw(4, 0)
    torch.rand(3)  # what torch's own generator has done plays no part
    again, other = draw(4, 0), draw(4, 1)
    assert torch.equal(first.draws, again.draws)
    assert first.stats.keys() == again.stats.keys()
    assert all(torch.equal(first.stats[key], again.stats[key]) for key in first.stats)
    assert not bool((first.draws == other.draws).any())


def test_the_global_generator_is_left_alone(draw):
    before = torch.random.get_rng_state()
    draw(3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_draw_depends_on_a_draw_before(draw):
    first = draw(4)
    draw(2, 7)
    assert torch.equal(draw(4).draws, first.draws)


@pytest.mark.parametrize("num_samples", [0, -1, 2.0, True], ids=str)
def test_counts_that_are_no_positive_integers_are_refused(draw, num_samples):
    with pytest.raises(ValueError, match=f"num_samples must be a positive integer, got {num_samples}"):
        draw(num_samples)


@pytest.mark.parametrize("draw", [name for name in NAMES if name != CHOOSING], indirect=True)
def test_callbacks_receive_every_level_down_to_zero(draw):
    steps = []
    found = draw(3, on_step=steps.append)
    assert all(isinstance(step, StepRecord) and step.x.shape == (3, 3) for step in steps)
    levels = [step.level for step in steps]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0
    assert torch.equal(draw(3).draws, found.draws)
