"""Records of targets, and the numbers that define them."""

import math

import pytest
import torch
from torch.distributions import constraints

from drl_density.testing import assert_z, known_target, seeded_generator
from drl_density.testing.targets.gaussians import spread
from drl_density.testing.targets.record import Definition, fixed, gamma, named, normal, rotated, rotation, uniform


def test_a_named_target_is_a_distribution_in_float64():
    target = named("some", "kind", spread(-1, 1, 3, "note"))
    assert (target.name, target.family, target.dim, target.notes) == ("some", "kind", 3, "note")
    assert target.target.event_shape == (3,)
    assert target.target.sample((1,)).dtype == torch.float64
    assert target.is_proper
    assert target.target.is_integrable


def test_a_simplex_has_one_free_coordinate_less():
    definition = Definition(lambda x: 0 * x.sum(-1), (4,), 0.0, "", None, constraints.simplex)
    assert named("a", "b", definition).dim == 3


def test_an_infinite_integral_is_improper():
    target = named("a", "b", Definition(lambda x: 0 * x.sum(-1), (2,), math.inf, ""))
    assert not target.is_proper
    assert not target.target.is_integrable


def test_samples_follow_the_generator_and_are_refused_without_draws():
    target = known_target("gaussian_2d")
    first, second, other = (target.sample(5, generator=fixed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    with pytest.raises(NotImplementedError, match="'rosenbrock_3d' has no exact draws"):
        known_target("rosenbrock_3d").sample(5)


def test_helpers_draw_in_float64():
    assert normal(2, 3, generator=fixed(0)).dtype == uniform(2, generator=fixed(0)).dtype == torch.float64
    draws = uniform(4000, generator=seeded_generator())
    assert_z(draws, 0.5)
    shapes = torch.tensor([0.5, 4.0]).expand(4000, 2)
    drawn = gamma(shapes, generator=seeded_generator(1))
    assert_z(drawn, shapes[0])
    assert_z((drawn - shapes).square(), shapes[0])


def test_rotation_is_orthogonal_and_keeps_log_z():
    matrix = rotation(4, 3)
    assert torch.allclose(matrix @ matrix.T, torch.eye(4).double())
    inner = spread(-1, 1, 4, "")
    turned = rotated(inner, 3, "turned")
    assert turned.log_z == inner.log_z
    x = inner.draws(5, fixed(1))
    assert torch.allclose(turned.log_density(x @ matrix.T), inner.log_density(x))
    assert torch.allclose(turned.draws(5, fixed(1)), x @ matrix.T)
    without = Definition(inner.log_density, (4,), 0.0, "")
    assert rotated(without, 3, "").draws is None
