"""Mixtures of separate modes: far, near, of very different weight or width, and very many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from drl_density.testing.targets.record import LOG_TWO_PI, Builder, Definition, fixed, normal, uniform


def mixture(weights: Sequence[float], means: Tensor, scales: Sequence[float], notes: str, log_z: float = 0.0) -> Definition:
    """Isotropic Gaussians of given weights, means ``(K, d)`` and standard deviations, times ``exp(log_z)``."""
    means, sds = means.double(), torch.tensor(scales, dtype=torch.float64)
    shares = torch.tensor(weights, dtype=torch.float64)
    shares = shares / shares.sum()
    dim = means.shape[1]
    heights = shares.log() - dim * sds.log() - 0.5 * dim * LOG_TWO_PI + log_z

    def log_density(x: Tensor) -> Tensor:
        distances = (x[..., None, :] - means.to(x)) / sds.to(x)[:, None]
        return torch.logsumexp(heights.to(x) - 0.5 * distances.square().sum(-1), -1)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        chosen = torch.multinomial(shares, count, replacement=True, generator=generator)
        return means[chosen] + sds[chosen, None] * normal(count, dim, generator=generator)

    return Definition(log_density, (dim,), log_z, notes, draws)


def pair(dim: int, distance: float, weights: tuple[float, float], scales: tuple[float, float], notes: str) -> Definition:
    """Two modes, the first at the origin and the second on the diagonal."""
    means = torch.stack([torch.zeros(dim), torch.full((dim,), 1.0)]).double() * (distance / math.sqrt(dim))
    return mixture(weights, means, scales, notes)


def forty(dim: int) -> Definition:
    """Forty unit Gaussians with centres uniform in a box of half-width 40."""
    means = 80 * uniform(40, dim, generator=fixed(0)) - 40
    return mixture([1.0] * 40, means, [1.0] * 40, "40 modes of one width in a box of half-width 40")


def grid(side: int, distance: float) -> Definition:
    """A square grid of modes in the plane."""
    steps = distance * (torch.arange(side).double() - (side - 1) / 2)
    means = torch.cartesian_prod(steps, steps)
    return mixture([1.0] * side**2, means, [0.5] * side**2, f"a grid of {side**2} modes", 2.0)


def ring(count: int, radius: float) -> Definition:
    """Modes on a circle, of weights 1, 2, and so on."""
    angles = 2 * math.pi * torch.arange(count).double() / count
    means = radius * torch.stack([angles.cos(), angles.sin()], -1)
    return mixture([1.0 + k for k in range(count)], means, [0.2] * count, "modes of unequal weight on a circle", -3.0)


def needles() -> Definition:
    """Narrow modes far apart among wide ones, in ten dimensions."""
    means = 6 * normal(5, 10, generator=fixed(3))
    return mixture([1.0] * 5, means, [2.0, 1.0, 0.5, 0.1, 0.05], "narrow modes far apart among wide ones")


def three_scales() -> Definition:
    """Three modes whose widths differ by a factor of a thousand."""
    means = torch.tensor([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [30.0, 30.0, 0.0]])
    return mixture([1.0, 1.0, 1.0], means, [0.01, 1.0, 10.0], "widths from 0.01 to 10", 1.0)


def spike_and_slab(dim: int, spike: float, slab: float) -> Definition:
    """A product of even mixtures of a narrow and a wide Gaussian at zero, one factor per coordinate."""
    sds = torch.tensor([spike, slab], dtype=torch.float64)

    def log_density(x: Tensor) -> Tensor:
        own = sds.to(x)
        parts = -0.5 * (x[..., None] / own).square() - own.log() - 0.5 * LOG_TWO_PI - math.log(2)
        return torch.logsumexp(parts, -1).sum(-1)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        chosen = (uniform(count, dim, generator=generator) < 0.5).long()
        return sds[chosen] * normal(count, dim, generator=generator)

    return Definition(log_density, (dim,), 0.0, f"spikes {spike:g} wide on slabs {slab:g} wide, {2**dim} parts", draws)


def correlated_parts(dim: int, count: int) -> Definition:
    """Gaussians of random means and full covariances."""
    generator = fixed(5)
    means = 4 * normal(count, dim, generator=generator)
    factors = torch.linalg.qr(normal(count, dim, dim, generator=generator))[0] * torch.logspace(-1, 0.5, dim).double()
    weights = torch.arange(1, count + 1).double() / (count * (count + 1) / 2)
    inverses = torch.linalg.inv(factors)
    heights = weights.log() - torch.linalg.slogdet(factors)[1] - 0.5 * dim * LOG_TWO_PI

    def log_density(x: Tensor) -> Tensor:
        whitened = torch.einsum("kij,...kj->...ki", inverses.to(x), x[..., None, :] - means.to(x))
        return torch.logsumexp(heights.to(x) - 0.5 * whitened.square().sum(-1), -1)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        noise = normal(count, dim, 1, generator=generator)
        return means[chosen] + (factors[chosen] @ noise).squeeze(-1)

    return Definition(log_density, (dim,), 0.0, "full covariances of standard deviations 0.1 to 3.2", draws)


def skewed_pair(dim: int) -> Definition:
    """Two products of skew normal densities, whose tops lie away from their means."""

    def part(x: Tensor, place: float, scale: float, slant: float) -> Tensor:
        z = (x - place) / scale
        own = math.log(2 / scale) - 0.5 * LOG_TWO_PI - 0.5 * z.square() + torch.special.log_ndtr(slant * z)
        return own.sum(-1)

    def log_density(x: Tensor) -> Tensor:
        return torch.logaddexp(part(x, 0.0, 1.0, 6.0) + math.log(0.7), part(x, 4.0, 0.4, -8.0) + math.log(0.3))

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        first, second = normal(count, dim, generator=generator).abs(), normal(count, dim, generator=generator)
        is_first = uniform(count, 1, generator=generator) < 0.7
        slant = torch.where(is_first, 6.0, -8.0).double()
        z = (slant * first + second) / (1 + slant.square()).sqrt()
        return torch.where(is_first, z, 4 + 0.4 * z)

    return Definition(log_density, (dim,), 0.0, "two skewed modes of different widths", draws)


TARGETS: dict[str, Builder] = {
    "pair_at_30_1d": lambda: mixture(
        [0.3, 0.7], torch.tensor([[0.0], [30.0]]), [1.0, 0.1], "the heavier mode is narrow and 30 away"
    ),
    "two_modes_10d": partial(pair, 10, 20.0, (0.5, 0.5), (1.0, 1.0), "two unit Gaussians 20 apart"),
    "two_modes_near_5d": partial(pair, 5, 5.0, (0.5, 0.5), (1.0, 1.0), "two unit Gaussians 5 apart"),
    "two_modes_100_apart_2d": partial(pair, 2, 100.0, (0.4, 0.6), (1.0, 1.0), "two unit Gaussians 100 apart"),
    "unequal_pair_5d": partial(pair, 5, 12.0, (0.05, 0.95), (1.0, 1.0), "the mode at the origin has 5 % of the mass"),
    "minor_mode_6d": partial(pair, 6, 10.0, (0.8, 0.2), (1.0, 0.5), "a narrower mode of 20 % of the mass"),
    "narrow_and_wide_5d": partial(pair, 5, 0.0, (0.5, 0.5), (0.05, 1.0), "half of the mass in a spike inside the rest"),
    "narrow_and_wide_10d": partial(pair, 10, 0.0, (0.5, 0.5), (0.05, 1.0), "half of the mass in a spike inside the rest"),
    "needles_10d": needles,
    "three_scales_3d": three_scales,
    "ring_of_eight_2d": partial(ring, 8, 4.0),
    "grid_of_25_2d": partial(grid, 5, 4.0),
    "forty_gaussians_2d": partial(forty, 2),
    "forty_gaussians_50d": partial(forty, 50),
    "correlated_mixture_8d": partial(correlated_parts, 8, 3),
    "spike_and_slab_1d": partial(spike_and_slab, 1, 0.02, 2.0),
    "spike_and_slab_8d": partial(spike_and_slab, 8, 0.1, 2.0),
    "skewed_pair_3d": partial(skewed_pair, 3),
    "seven_narrow_1d": lambda: mixture(
        [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0],
        torch.tensor([[-3.0], [-2.2], [-0.5], [0.1], [0.7], [1.9], [3.3]]),
        [0.001, 0.002, 0.001, 0.003, 0.001, 0.005, 0.001],
        "seven modes, each a thousandth of the spread or narrower",
    ),
}
