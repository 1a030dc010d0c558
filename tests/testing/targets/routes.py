"""Second routes to log Z: quadrature of the density itself, and the mean of inverse densities over exact draws."""

import math

import torch

from drl_density.testing import assert_z, seeded_generator
from drl_density.testing.targets.quadrature import log_integral


def integral(definition, half, num_panels, *, center=0.0):
    """log Z by quadrature over a cube."""
    (dim,) = definition.shape
    return log_integral(definition.log_density, [(center - half, center + half)] * dim, num_panels)


def checked_draws(definition, num_samples=4000, offset=0):
    """Exact draws, of the right shape and type."""
    x = definition.draws(num_samples, seeded_generator(offset))
    assert x.dtype == torch.float64
    assert x.shape == (num_samples, *definition.shape)
    return x


def assert_draws(definition, center, scale, *, num_samples=4000):
    """Draws have the density ``f / Z``: the mean of ``q / f`` over them is 1 / Z for any density q, here a narrow Gaussian.

    Args:
        center: mean of q, a number or ``(d,)``.
        scale: standard deviations of q, small enough for a finite variance.
    """
    x = checked_draws(definition, num_samples)
    center, scale = (torch.as_tensor(part, dtype=torch.float64).expand(definition.shape) for part in (center, scale))
    log_q = -(0.5 * ((x - center) / scale).square() + scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
    assert_z((log_q - definition.log_density(x) + definition.log_z).exp(), 1.0)


def assert_draws_in_box(definition, low, high, *, num_samples=4000):
    """The same with q uniform on a box that lies where the density is positive."""
    x = checked_draws(definition, num_samples)
    low, high = (torch.as_tensor(end, dtype=torch.float64).expand(definition.shape) for end in (low, high))
    is_inside = ((x > low) & (x < high)).all(-1)
    assert int(is_inside.sum()) >= 100
    inverse = (definition.log_z - definition.log_density(x)).exp() / float((high - low).prod())
    assert_z(torch.where(is_inside, inverse, torch.zeros(()).double()), 1.0)
