"""Bijections from the reals onto supports: inverses, volumes against autograd, and probabilities without clipping."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from drl_density.distributions.reals import log_volume, real_transform
from drl_density.distributions.supports import is_inside

CASES = {
    "interval": (constraints.interval(-1.0, 3.0), (2,), None),
    "half line": (constraints.independent(constraints.less_than(2.0), 1), (2,), None),
    "simplex": (constraints.simplex, (3,), [0, 1]),
    "two simplices": (constraints.independent(constraints.simplex, 1), (2, 3), [0, 1, 3, 4]),
    "triangle": (constraints.lower_cholesky, (3, 3), [0, 3, 4, 6, 7, 8]),
    "positive definite": (constraints.positive_definite, (3, 3), [0, 3, 4, 6, 7, 8]),
    "correlation": (constraints.corr_cholesky, (3, 3), [3, 6, 7]),
    "ordered": (dist.constraints.ordered_vector, (3,), None),
    "simplex and positive": (constraints.cat([constraints.simplex, constraints.positive], -1, [3, 2]), (5,), [0, 1, 3, 4]),
    "stacked": (constraints.stack([constraints.positive, constraints.unit_interval], -1), (2,), None),
    "stacked simplices": (constraints.stack([constraints.simplex, constraints.simplex], -2), (2, 3), [0, 1, 3, 4]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_volume_is_the_determinant_over_the_free_entries(name):
    support, shape, free = CASES[name]
    transform = real_transform(support)
    inner = torch.Size(transform.inverse_shape(torch.Size(shape)))
    u = torch.randn(2, *inner, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = transform(u)
    assert x.shape == (2, *shape)
    assert torch.Size(transform.forward_shape(inner)) == torch.Size(shape)
    assert bool(is_inside(support, x, len(shape)).all())
    torch.testing.assert_close(transform.inv(x), u)
    torch.testing.assert_close(torch.vmap(transform)(u), x)  # as a model's rows are evaluated

    def entries(flat):
        values = transform(flat.reshape(1, *inner)).flatten()
        return values if free is None else values[free]

    jacobian = torch.autograd.functional.jacobian(entries, u[0].flatten())
    assert float(log_volume(transform, u, x, 1)[0]) == pytest.approx(float(jacobian.slogdet()[1]), abs=1e-9)


def test_probabilities_are_as_small_as_numbers_go():
    """Torch's own map stops at 1e-16 from 1."""
    transform = real_transform(constraints.simplex)
    u = torch.tensor([[600.0, 1.0], [-600.0, 40.0]], dtype=torch.float64)
    x = transform(u)
    assert 0 < float(x[0, 2]) < 1e-250
    torch.testing.assert_close(transform.inv(x), u)
    dirichlet = dist.Dirichlet(torch.full((3,), 0.1, dtype=torch.float64))
    far = torch.tensor([[0.0, 4000.0]], dtype=torch.float64)  # nothing may become log 0 = -inf times a negative power
    assert math.isfinite(float(dirichlet.log_prob(transform(far)) + log_volume(transform, far, transform(far), 1)))


@pytest.mark.parametrize(
    ("support", "words"),
    [
        (dist.Poisson(torch.ones(2)).to_event(1).support, "discrete"),
        (dist.constraints.sphere, "no bijection"),
        (constraints.cat([constraints.real, constraints.positive], 0), "dim=-1"),
    ],
)
def test_supports_without_a_bijection_are_refused_by_name(support, words):
    with pytest.raises(ValueError, match=words):
        real_transform(support)


def test_stacked_reals_of_different_shapes_are_refused():
    mixed = real_transform(
        constraints.stack([constraints.simplex, constraints.independent(constraints.positive, 1)], -2)
    )
    with pytest.raises(ValueError, match="one shape"):
        mixed.inverse_shape(torch.Size((2, 3)))


def test_a_mixture_has_the_support_of_its_components():
    gammas = dist.Gamma(torch.ones(2, 3), 1.0).to_event(1)
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), gammas)
    assert real_transform(mixture.support)(torch.zeros(1, 3)).tolist() == [[1.0, 1.0, 1.0]]
