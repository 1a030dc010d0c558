"""Supports of fitted densities: maps between data and model space that stay inside, to the edges of each type."""

import copy
import math
import pickle

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import biject_to, constraints, transform_to

import drl_density as drl
from drl_density.distributions import FittedSupport
from drl_density.distributions.fitted_support import FromModelSpace, intersection_of, union_of
from drl_density.distributions.supports import has_own_map, is_same_support, is_whole_space
from drl_density.testing import seeded_generator
from drl_density.transforms import Affine, Composed, logit
from tests.transforms.cases import TRANSFORMS, fixture_of, gaussian, rows, with_cells

EVENT = torch.Size([4])
FARTHEST = (0.0, 3.0, 8.0, 20.0, 40.0, 300.0, 1e5)
pair = fixture_of(TRANSFORMS)


def states(dtype=torch.float64):
    """Model-space states: a thousand of the body, and all columns far out on either side, out to infinity."""
    body = torch.randn(250, 4, generator=seeded_generator(3), dtype=torch.float64)
    far = torch.tensor([*FARTHEST, 1e10, 1e20, 1e100, math.inf], dtype=torch.float64)
    return torch.cat([body, far[:, None].expand(-1, 4), -far[:, None].expand(-1, 4)]).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_state_maps_out_of_the_support(pair, dtype):
    support = FittedSupport(pair[0], EVENT)
    x = biject_to(support)(states(dtype))
    assert x.dtype == dtype
    assert bool(support.check(x).all())
    assert bool(pair[0](x.double()).isfinite().all())


def test_points_come_back_to_float64_precision(pair):
    """x -> u -> x in the body and in the tails: u has 16 digits, of which log-probabilities of -u^2 / 2 use up some."""
    support = FittedSupport(pair[0], EVENT)
    transform = biject_to(support)
    u = states()[: 250 + len(FARTHEST)]
    x = transform(u[u.abs().amax(1) <= 40])
    again = transform(transform.inv(x))
    # An error of eps u in u is one of eps u^2 in log F, and with components of scale 1 one of the same share in x.
    share = 1e-15 * 40**2
    lower, upper = support.bounds
    distance = torch.minimum(x - lower.masked_fill(lower.isinf(), 0.0), upper.masked_fill(upper.isinf(), 1e9) - x).abs()
    assert bool(((again - x).abs() <= share * distance + 1e-15 * x.abs()).all())


def test_a_density_is_that_of_model_space_for_every_state(pair):
    """log N(T(x)) + log |dT/dx| + log |dx/du| = log N(u), with a finite gradient, where no x of float64 is exact too."""
    transform = pair[0]
    chart = biject_to(FittedSupport(transform, EVENT))
    u = states()
    u = u[u.abs().amax(1) < math.inf].requires_grad_(True)
    x = chart(u)
    image, log_jacobian = transform.with_log_jacobian(x)
    total = -0.5 * image.square().sum(1) + log_jacobian + chart.log_abs_det_jacobian(u, x)
    torch.testing.assert_close(total, -0.5 * u.square().sum(1), rtol=1e-7, atol=1e-9)
    (gradient,) = torch.autograd.grad(total.sum(), u)
    torch.testing.assert_close(gradient, -u, rtol=1e-5, atol=1e-6)


def test_the_jacobian_is_that_of_autograd(pair):
    chart = biject_to(FittedSupport(pair[0], EVENT))
    for u in states()[:3]:
        matrix = torch.autograd.functional.jacobian(chart, u)
        expected = torch.linalg.slogdet(matrix).logabsdet
        torch.testing.assert_close(chart.log_abs_det_jacobian(u, chart(u)), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch itself, at its first forward derivative
@pytest.mark.parametrize("make", [gaussian, with_cells], ids=["columns", "cells"])
def test_quantiles_have_second_derivatives_in_every_mode(make):
    chart = biject_to(FittedSupport(make(), EVENT))
    u = states()[0]

    def total(point):
        return (chart(point) * torch.arange(1.0, 5.0).double()).sum()

    backward = torch.autograd.functional.hessian(total, u)
    step = 1e-5 * torch.eye(4).double()
    slopes = [torch.func.grad(total)(u + sign * one) for one in step for sign in (1, -1)]
    numeric = torch.stack([(up - down) / 2e-5 for up, down in zip(slopes[::2], slopes[1::2], strict=True)])
    torch.testing.assert_close(backward, numeric, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(torch.func.jacrev(torch.func.grad(total))(u), backward, rtol=1e-9, atol=1e-9)
    forward = torch.func.jvp(total, (u,), (step[0],))[1]
    torch.testing.assert_close(forward, 1e-5 * torch.func.grad(total)(u)[0], rtol=1e-9, atol=0)


def test_maps_under_vmap_are_those_of_rows(pair):
    chart = biject_to(FittedSupport(pair[0], EVENT))
    u = states()[:5]

    def value(point):
        x = chart(point)
        return chart.log_abs_det_jacobian(point, x) + x.sum()

    one_by_one = torch.stack([value(point) for point in u])
    torch.testing.assert_close(torch.vmap(value)(u), one_by_one, rtol=1e-12, atol=1e-12)
    slopes = torch.vmap(torch.func.grad(value))(u)
    torch.testing.assert_close(slopes[2], torch.func.grad(value)(u[2]), rtol=1e-9, atol=1e-9)


def test_events_of_several_dimensions_and_leading_shapes():
    support = FittedSupport(Composed([logit(0.0, 1.0), Affine(0.0, 2.0)]), torch.Size([1, 2, 2]))
    chart = biject_to(support)
    u = torch.zeros(5, 3, 1, 2, 2)
    x = chart(u)
    assert x.shape == u.shape
    assert chart.log_abs_det_jacobian(u, x).shape == (5, 3)
    assert support.check(x).shape == (5, 3)
    assert chart.domain.event_dim == chart.codomain.event_dim == support.event_dim == 3
    batched = biject_to(constraints.independent(support, 1))
    assert batched.log_abs_det_jacobian(u, batched(u)).shape == (5,)


@pytest.mark.parametrize("registry", [biject_to, transform_to])
def test_registered_for_this_constraint_alone(registry):
    makers = {kind: made.__module__.partition(".")[0] for kind, made in registry._registry.items()}
    assert {kind for kind, room in makers.items() if room not in ("torch", "pyro")} == {FittedSupport}


def test_the_registry_gives_the_map_of_model_space():
    support = FittedSupport(gaussian(), EVENT)
    for registry in (biject_to, transform_to):
        assert isinstance(registry(support), FromModelSpace)
        assert registry(support) == biject_to(support)
    cached = biject_to(support).with_cache(1)
    u = states()[:2]
    assert cached.inv(cached(u)) is u
    assert biject_to(support) != biject_to(FittedSupport(gaussian(), EVENT))
    assert "0 bounded columns" in repr(support)


def test_sets_are_compared_by_their_points():
    free, bounded = FittedSupport(gaussian(), EVENT), FittedSupport(gaussian(is_bounded=True), EVENT)
    other = FittedSupport(copy.deepcopy(gaussian(is_bounded=True)), EVENT)
    assert is_whole_space(free)
    assert is_whole_space(constraints.independent(free, 1))
    assert not is_whole_space(bounded)
    assert has_own_map(free)
    assert is_same_support(bounded, other)
    assert not is_same_support(free, bounded)
    assert is_same_support(free, constraints.real_vector)
    assert not is_same_support(free, constraints.real)
    assert not is_same_support(bounded, FittedSupport(with_cells(), EVENT))


def test_a_support_survives_pickle_and_copies():
    support = FittedSupport(with_cells(), EVENT)
    u = states()[:3]
    for again in (pickle.loads(pickle.dumps(support)), copy.deepcopy(support)):
        assert torch.equal(biject_to(again)(u), biject_to(support)(u))
        assert is_same_support(support, again)
    assert torch.equal(pickle.loads(pickle.dumps(biject_to(support)))(u), biject_to(support)(u))


def test_points_outside_are_not_members():
    support = FittedSupport(with_cells(), EVENT)
    x = rows()[:1]
    x[:, 1] = 5.0
    beyond = x.clone()
    beyond[:, 3] = 1.0
    in_a_gap = x.clone()
    in_a_gap[:, 1] = 3.0
    missing = x.clone()
    missing[:, 0] = math.nan
    assert support.check(torch.cat([x, beyond, in_a_gap, missing])).tolist() == [True, False, False, False]
    assert support.check(torch.cat([x, beyond]).float()).tolist() == [True, False]


def box_of(lower, upper, event_shape=EVENT):
    """A support whose last column lies between two ends, and the others between 0 and 1."""
    low, high = torch.zeros(4).double(), torch.ones(4).double()
    low[3], high[3] = lower, upper
    return FittedSupport(logit(low, high), event_shape)


def test_supports_of_several_fits_have_a_union_and_an_intersection():
    wide, left, right = box_of(0.0, 3.0), box_of(0.0, 2.0), box_of(1.0, 3.0)
    assert union_of([left, wide, right]) is wide
    assert intersection_of([wide, left]) is left
    x = torch.tensor([[0.5, 0.5, 0.5, place] for place in (0.5, 1.5, 2.5, 3.5)], dtype=torch.float64)
    assert union_of([left, right]).check(x).all(-1).tolist() == [True, True, True, False]
    assert intersection_of([left, right]).check(x).all(-1).tolist() == [False, True, False, False]
    assert intersection_of([left, box_of(2.5, 3.0)]) is None
    pictures = [box_of(0.0, 2.0, torch.Size([2, 2])), box_of(1.0, 3.0, torch.Size([2, 2]))]
    assert union_of(pictures) is None
    cells, free = FittedSupport(with_cells(), EVENT), FittedSupport(gaussian(is_bounded=True), EVENT)
    assert free.includes(cells)
    assert not cells.includes(free)


def test_combinations_of_fits_over_several_boxes_have_a_support_around_or_within():
    def uniform(support):
        energy = drl.EnergyDistribution(lambda x: 0.0 * x.sum(-1), (4,), support=support, is_integrable=True)
        return energy.normalize(0.0)

    left, right = uniform(box_of(0.0, 2.0)), uniform(box_of(1.0, 3.0))
    x = torch.tensor([[0.5, 0.5, 0.5, place] for place in (0.5, 1.5, 3.5)], dtype=torch.float64)
    mixed, both = drl.Mixture([left, right], [1.0, 1.0]), drl.product([left, right])
    assert mixed.support.check(x).all(-1).tolist() == [True, True, False]
    assert both.support.check(x).all(-1).tolist() == [False, True, False]
    normal = dist.Normal(torch.zeros(4).double(), 1.0).to_event(1)
    assert drl.product([normal, left]).support is left.support
    assert is_whole_space(drl.Mixture([normal, left], [1.0, 1.0]).support)
