"""Mass that no particle has entered, on targets whose draws leave out a part that is known."""

import math

import pyro.distributions as dist
import pytest
import torch

from drl_density.mcmc import MALA, RandomWalk
from drl_density.partition_function.one_sided.unvisited import flat_base, unvisited
from drl_density.testing import seeded_generator

BASE = flat_base(dist.Normal(torch.zeros(2).double(), 3.0).to_event(1), torch.Size([2]))
ONE = math.log(2 * math.pi)


def gaussian(x, center=0.0, width=1.0):
    """An unnormalised Gaussian of two coordinates, of mass 2 pi."""
    return -0.5 * ((x - center) / width).square().sum(-1) - 2 * math.log(width)


def pair(x):
    """Two Gaussians of equal mass, 12 apart along both coordinates."""
    return torch.logaddexp(gaussian(x), gaussian(x, 12.0))


def narrow_in_wide(x):
    """A Gaussian and one of the same mass and centre, a fiftieth as wide."""
    return torch.logaddexp(gaussian(x), gaussian(x, 0.0, 0.02))


def nowhere_narrow(x):
    """The logarithm of 1 / (1 + r^2), whose integral over the plane is infinite."""
    return -torch.log1p(x.square().sum(-1))


def draws(scale=1.0):
    return scale * torch.randn(4, 64, 2, generator=seeded_generator(0), dtype=torch.float64)


def reasons(log_density, log_z=ONE, rows=None):
    return unvisited(
        log_density,
        BASE,
        draws() if rows is None else rows,
        log_z,
        kernel=MALA(),
        num_swept=1024,
        generator=seeded_generator(1),
    )


def test_draws_of_all_of_a_target_leave_nothing_open():
    assert reasons(gaussian) == ([], [])
    # A constant shifts the density and log Z alike.
    assert reasons(lambda x: gaussian(x) + 1e6, ONE + 1e6) == ([], [])
    rows = draws()
    rows[:, ::2] += 12.0
    assert reasons(pair, ONE + math.log(2), rows) == ([], [])


@pytest.mark.parametrize(
    ("log_density", "reason"),
    [
        (pair, "holds 0.0% of the final draws"),
        (narrow_in_wide, "of the draws come near"),
        (nowhere_narrow, "mass does not fall"),
    ],
)
def test_what_the_draws_have_not_entered_is_a_fault(log_density, reason):
    faults, _ = reasons(log_density)
    assert any(reason in fault for fault in faults), faults


def test_a_density_that_is_not_a_number_counts_as_zero():
    def half(x):
        return torch.where(x[:, 0] > -20.0, gaussian(x), math.nan)

    faults, _ = reasons(half)
    assert faults == []


def test_points_that_are_no_numbers_are_not_evaluated():
    """Along the axes of this target a ridge is so sharp that the search for its crest leaves the numbers."""
    seen = []

    def roots(x):
        seen.append(bool(x.isfinite().all()))
        return -x.abs().sqrt().sum(-1)

    # The root of |x| has a Gamma distribution of shape 2.
    rows = draws().sign() * torch.rand(2, 4, 64, 2, generator=seeded_generator(2)).double().log().sum(0).square()
    options = {"kernel": RandomWalk(), "num_swept": 0, "generator": seeded_generator(1)}
    assert unvisited(roots, BASE, rows, 2 * math.log(4.0), **options)[0] == []
    assert all(seen)


def test_a_base_of_images_is_flat():
    base = flat_base(dist.Normal(torch.zeros(2, 3).double(), 1.0).to_event(2), torch.Size([2, 3]))
    rows = base.draw(5, seeded_generator(0))
    assert rows.shape == (5, 6)
    torch.testing.assert_close(base.log_prob(rows), dist.Normal(0.0, 1.0).log_prob(rows).sum(1))
