"""The independence sampler against closed forms: stationary density, acceptance, and how fast it forgets its start."""

import pytest
import torch

from drl_density.mcmc import Independence, take_steps
from drl_density.testing import assert_z, seeded_generator

SHIFT = 0.8
"""Proposals are N(0, 1) and the target is N(SHIFT, 1), so the log weight is SHIFT x, up to a constant."""


def kernel(num_proposals=1):
    def propose(count, generator):
        return torch.randn(count, generator=generator, dtype=torch.float64)

    return Independence(propose, num_proposals)


def weight(x):
    return SHIFT * x


def run(start, num_steps, seed, num_proposals=1):
    chosen, generator = kernel(num_proposals), seeded_generator(seed)
    state = chosen.init(start, weight)
    return take_steps(chosen, state, weight, num_steps=num_steps, step_size=1.0, generator=generator)


@pytest.mark.parametrize("num_proposals", [1, 3])
def test_the_target_is_stationary(num_proposals):
    x = SHIFT + torch.randn(20_000, generator=seeded_generator(0), dtype=torch.float64)
    found = run(x, 3, 1, num_proposals)
    assert_z(found.state.position, SHIFT)
    assert_z((found.state.position - SHIFT).square(), 1.0)
    # E min(1, w(y) / w(x)) is 2 P(y > x), and y - x is N(-SHIFT, 2).
    assert_z(found.acceptance_rate, 2 * torch.special.ndtr(torch.tensor(-SHIFT / 2**0.5).double()))


def test_a_start_is_forgotten_by_the_acceptance_of_proposals():
    """Far left, where every proposal has more weight, the first one is taken; far right few are."""
    left, right = (run(torch.full((4000,), start).double(), 1, 2).state.position for start in (-9.0, 5.0))
    assert bool((left != -9.0).all())
    far = kernel(3).init(torch.full((4000,), 5.0).double(), weight)
    after, info = kernel(3).step(far, weight, 1.0, seeded_generator(5))
    assert torch.equal(info.is_accepted, after.position != 5.0)  # by any of the three
    assert 0 < int((right != 5.0).sum()) < 800
    for num_steps, num_proposals in ((40, 1), (4, 10)):
        assert_z(run(torch.full((20_000,), -9.0).double(), num_steps, 3, num_proposals).state.position, SHIFT)


def test_a_weight_that_is_not_a_number_is_rejected():
    start = torch.zeros(5, dtype=torch.float64)
    state = kernel().init(start, weight)
    after, info = kernel(2).step(state, lambda x: x * torch.nan, 1.0, seeded_generator(4))
    assert torch.equal(after.position, start)
    assert not bool(info.is_accepted.any())
    assert bool(info.is_diverging.all())


@pytest.mark.parametrize("scale", [None, torch.ones(1)])
def test_it_has_no_gradient_and_no_scale(scale):
    assert kernel().gradients_per_step == 0
    assert kernel().with_scale(scale).scale is None
    with pytest.raises(ValueError, match="num_proposals"):
        kernel(0)
