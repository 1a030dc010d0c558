"""log Z of targets as they come: walls, values that are no numbers, no gradient, constants, supports, and scales."""

import math

import pyro.distributions as dist
import pytest
import torch

import drl_density as drl

TINY = drl.SandwichSettings(
    num_particles=16,
    num_replicates=3,
    num_mixing_steps=4,
    most_rounds=4,
    num_transitions=2,
    conditional_ess=0.8,
    num_kept=8,
    tolerance=3.0,
)
LOG_TWO_PI = math.log(2 * math.pi)


def quadratic(x):
    return -0.5 * x.square().sum(-1)


def walled(x):
    """Minus infinity in the left half, not a number above 3, a large constant, and no gradient."""
    values = torch.where(x[:, 0] > 0, quadratic(x) - 9.76e8, -math.inf)
    return torch.where(x[:, 1] > 3, math.nan, values).detach().numpy()


BOX = dist.Uniform(-6 * torch.ones(2), 6 * torch.ones(2)).to_event(1)
TARGETS = {
    "walls, NaN, a constant and numpy": (walled, LOG_TWO_PI + math.log(0.49933) - 9.76e8, None),
    "a uniform base": (lambda x: torch.where((x.abs() <= 6).all(1), quadratic(x), -math.inf), LOG_TWO_PI, BOX),
    "a million wide": (lambda x: quadratic((x - 5e5) / 1e6) + 1e9, LOG_TWO_PI + 2 * math.log(1e6) + 1e9, None),
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
def test_log_z_of_a_natural_target_is_right(name):
    function, truth, base = TARGETS[name]
    target = drl.EnergyDistribution.from_log_density(function, (2,))
    found = drl.sandwich(target, base=base, seed=0, settings=TINY)
    assert abs(found.log_z - truth) < 4 * found.standard_error + 0.05
    assert found.standard_error < 0.5
    assert found.bracket[0] - 0.2 < truth < found.bracket[1] + 0.2
    if name.startswith("walls"):
        assert found.dead_share > 0.05
        assert found.rejections.num_undefined > 0
        assert "no gradient" in found.advice
        assert "not a number" in found.advice
        assert torch.isfinite(found.draws).all()
        assert bool((found.draws[..., 0] > 0).all())


@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
def test_draws_lie_in_the_support():
    target = dist.Exponential(torch.tensor([1e-5])).to_event(1)
    found = drl.sandwich(target, seed=0, settings=TINY)
    assert abs(found.log_z) < 4 * found.standard_error + 0.05
    assert bool((found.draws > 0).all())
    assert float(found.draws.median()) > 1e4
