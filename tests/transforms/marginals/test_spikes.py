"""Spikes beside a slab: mass one, quantiles, ends that touch a bound or each other, and the values that become spikes."""

import math

import pytest
import torch

from drl_density.transforms import MarginalGaussianization
from drl_density.transforms.marginals import Marginals, Spikes, frequent_values


def logistic(lower, upper, shares, *, kind="linear", bound=0.0):
    """A standard logistic slab, in the coordinate of the column, with the given cells."""
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    cells = (torch.tensor([part]).double() for part in (lower, upper))
    logs = torch.tensor([shares]).double().log()
    frame = ((kind,), zero, one, zero + bound, zero + math.inf, zero[None], zero[None], one[None])
    return Marginals(*frame, spike_lower=next(cells), spike_upper=next(cells), spike_log_shares=logs)


CASES = {
    "apart": logistic([-1.0, 0.5], [-0.9, 0.6], [0.3, 0.2]),
    "touching": logistic([0.0, 0.1, 0.2], [0.1, 0.2, 0.3], [0.1, 0.5, 0.1]),
    "far out": logistic([-40.0, 40.0], [-39.9, 40.1], [0.4, 0.4]),
    "at a bound": logistic([0.0, 1.0], [0.1, 1.1], [0.5, 0.2], kind="above"),
}


@pytest.mark.parametrize("marginals", CASES.values(), ids=CASES)
def test_the_density_is_the_slope_of_a_cdf_with_the_given_shares(marginals):
    lower, upper = marginals.spike_lower[0], marginals.spike_upper[0]
    ends = torch.stack([lower, upper], 1)
    inside = lower + (upper - lower) * torch.tensor([[0.25], [0.75]]).double()
    between = torch.cat([lower - 0.01, upper + 0.02])
    between = between[(marginals.to_coordinate(between[:, None])[0][:, 0].isfinite())]
    between = between[~marginals.spikes[0].contains(between)]
    x = torch.cat([inside.flatten(), between, upper[-1:] + 3])[:, None].requires_grad_(True)
    density, below, above = marginals.log_parts_of(x)
    (slope,) = torch.autograd.grad(below.exp().sum(), x, retain_graph=True)
    torch.testing.assert_close(density.exp(), slope, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(below.exp() + above.exp(), torch.ones_like(x), rtol=1e-12, atol=0)
    step = 1e-12
    reached = marginals.log_parts_of((ends + torch.tensor([step, -step])).flatten()[:, None])[1].exp().reshape(-1, 2)
    torch.testing.assert_close(reached[:, 1] - reached[:, 0], marginals.spike_log_shares[0].exp(), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(torch.func.vmap(lambda row: marginals.log_parts_of(row)[1])(x.detach()), below.detach())


@pytest.mark.parametrize("marginals", CASES.values(), ids=CASES)
def test_quantiles_invert_the_cdf_in_cells_gaps_and_tails(marginals):
    u = torch.cat([torch.linspace(-3, 3, 401), torch.tensor([-30.0, 30.0, math.nan])]).double()[:, None]
    x = marginals.quantiles(u)
    assert bool(x[-1].isnan().all())
    _, below, above = marginals.log_parts_of(x[:-1])
    tails = torch.special.log_ndtr(u[:-1]), torch.special.log_ndtr(-u[:-1])
    for found, tail in zip((below, above), tails, strict=True):
        is_short = tail < math.log(0.5)
        torch.testing.assert_close(found[is_short], tail[is_short], rtol=1e-9, atol=1e-9)
    assert 0.1 < float(marginals.spikes[0].contains(x[:-1, 0]).double().mean()) < 0.95


@pytest.mark.parametrize("bound", [-0.5, 0.0])
def test_values_next_to_a_bound_stay_far_out(bound):
    """The quantile of a score below all floats is the lowest number of the cell at the bound, whose score is far out too."""
    marginals = logistic([bound, bound + 4], [bound + 1, bound + 5], [0.4, 0.2], kind="above", bound=bound)
    transform = MarginalGaussianization(marginals)
    u = torch.tensor([[-40.0], [-9.0], [-8.0]]).double()
    again = transform(transform.inv(u))
    assert bool((again < -7.9).all())
    assert float(again[2]) == pytest.approx(-8.0, abs=0.2)


def test_tails_are_those_of_the_slab_up_to_a_constant():
    marginals = CASES["apart"]
    plain = Marginals(("linear",), *(part for name, part in marginals.tensors().items() if "spike" not in name))
    x = torch.tensor([[-700.0], [700.0]]).double()
    found, expected = marginals.log_parts_of(x), plain.log_parts_of(x)
    ends = (marginals.spike_upper, marginals.spike_lower)
    below_upper, below_lower = (plain.log_parts_of(each.T)[1].exp() for each in ends)
    share = 0.5 / (1 - (below_upper - below_lower).sum())
    torch.testing.assert_close(found[0], expected[0] + share.log())
    torch.testing.assert_close(found[1][0], expected[1][0] + share.log())
    torch.testing.assert_close(found[2][1], expected[2][1] + share.log())


def test_wrong_cells_are_refused():
    tails = torch.tensor([[0.2], [0.4]]).double().log()
    one = torch.ones(1).double()
    for lower, upper, share in ((one, one, 0.5), (0 * one, one, 1.0)):
        with pytest.raises(ValueError, match="cells in ascending order and probabilities whose sum is below 1"):
            Spikes(lower, upper, (share * one).log(), tails, torch.log1p(-tails.exp()))
    nothing, everything = torch.full((1,), -math.inf).double(), torch.zeros(1).double()
    inside = torch.stack([nothing, everything]), torch.stack([everything, nothing])
    with pytest.raises(ValueError, match="a slab with mass between the cells"):
        Spikes(0 * one, one, (0.5 * one).log(), *inside)


def test_frequent_values_are_a_width_apart_and_the_most_frequent_first():
    values = torch.tensor([0.0] * 5 + [0.375] * 4 + [1.0] * 3 + [2.0] * 2).double()
    assert frequent_values(values, 0.5, least=3, most=9) == [(0.0, 5), (1.0, 3)]
    assert frequent_values(values, 0.1, least=2, most=2) == [(0.0, 5), (0.375, 4)]
