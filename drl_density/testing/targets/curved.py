"""Curved targets: shells, bananas, funnels, wells and waves."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from drl_density.testing.targets.quadrature import log_integral, rule
from drl_density.testing.targets.record import LOG_TWO_PI, Builder, Definition, normal, rotated, uniform


def shells(dim: int, centers: tuple[float, ...], radius: float, width: float) -> Definition:
    """Gaussian shells around centres on the first axis.

    Each is ``exp(-(|x - c| - radius)^2 / (2 width^2)) / sqrt(2 pi width^2)``, so its integral is that of a radius.
    """
    first = torch.tensor(centers, dtype=torch.float64)
    constant = -math.log(width) - 0.5 * LOG_TWO_PI
    log_area = math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(dim / 2)

    def log_density(x: Tensor) -> Tensor:
        along = (x[..., None, 0] - first.to(x)).square() + x[..., None, 1:].square().sum(-1)
        # The root has no gradient at a centre, where its argument is 0.
        parts = -0.5 * ((along.clamp(min=torch.finfo(x.dtype).tiny).sqrt() - radius) / width).square()
        return torch.logsumexp(parts + constant, -1)

    def radial(r: Tensor) -> Tensor:
        return constant - 0.5 * ((r - radius) / width).square() + (dim - 1) * r.log()

    low, high = max(0.0, radius - 15 * width), radius + 15 * width + dim * width**2 / radius * 2
    log_z = math.log(len(centers)) + log_area + log_integral(lambda r: radial(r).squeeze(-1), [(low, high)], 200)
    grid = rule(low, high, 200)
    cumulative = (radial(grid.points) + grid.log_weights).softmax(0).cumsum(0)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        # Rounding can leave the last cumulative share below 1, and a draw above it.
        own = torch.searchsorted(cumulative, uniform(count, generator=generator)).clamp(max=len(cumulative) - 1)
        directions = normal(count, dim, generator=generator)
        x = directions / directions.norm(dim=-1, keepdim=True) * grid.points[own, None]
        x[:, 0] += first[torch.randint(len(first), (count,), generator=generator)]
        return x

    notes = f"{len(centers)} shells of radius {radius:g}, {width:g} thick; log Z by quadrature over the radius"
    return Definition(log_density, (dim,), log_z, notes, draws)


def bananas(num_pairs: int, spread: float, bend: float, width: float) -> Definition:
    """Pairs in which ``x ~ N(0, spread^2)`` and ``y`` lies about ``bend x^2`` with standard deviation ``width``."""

    def log_density(x: Tensor) -> Tensor:
        first, second = x[..., 0::2], x[..., 1::2]
        bent = (second - bend * first.square()) / width
        return -0.5 * ((first / spread).square() + bent.square()).sum(-1)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        first = spread * normal(count, num_pairs, generator=generator)
        second = bend * first.square() + width * normal(count, num_pairs, generator=generator)
        return torch.stack([first, second], -1).flatten(1)

    log_z = num_pairs * (LOG_TWO_PI + math.log(spread * width))
    return Definition(log_density, (2 * num_pairs,), log_z, "parabolas; the map that bends them keeps volume", draws)


def conditional_rosenbrock(dim: int, width: float) -> Definition:
    """A chain ``x_1 ~ N(1, 0.5^2)``, ``x_{i+1} ~ N(x_i^2, width^2)``, without constants."""

    def log_density(x: Tensor) -> Tensor:
        steps = (x[..., 1:] - x[..., :-1].square()) / width
        return -0.5 * (((x[..., 0] - 1) / 0.5).square() + steps.square().sum(-1))

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        columns = [1 + 0.5 * normal(count, generator=generator)]
        for _ in range(dim - 1):
            columns.append(columns[-1].square() + width * normal(count, generator=generator))
        return torch.stack(columns, -1)

    log_z = 0.5 * dim * LOG_TWO_PI + math.log(0.5) + (dim - 1) * math.log(width)
    return Definition(log_density, (dim,), log_z, "each coordinate lies about the square of the one before", draws)


def rosenbrock(dim: int, stiffness: float) -> Definition:
    """Rosenbrock's function, ``-sum_i stiffness (x_{i+1} - x_i^2)^2 + (1 - x_i)^2``."""

    def log_density(x: Tensor) -> Tensor:
        steps = stiffness * (x[..., 1:] - x[..., :-1].square()).square()
        return -(steps + (1 - x[..., :-1]).square()).sum(-1)

    grid = rule(-6.0, 8.0, 90)
    x = grid.points
    last = torch.full_like(x, 0.5 * math.log(math.pi / stiffness))
    step = -stiffness * (x - x[:, None].square()).square() + grid.log_weights - (1 - x).square()
    for _ in range(dim - 2):
        last = (step + last).logsumexp(1)
    log_z = float((last - (1 - x).square() + grid.log_weights).logsumexp(0))
    return Definition(log_density, (dim,), log_z, "curved valley; log Z by quadrature over one coordinate after another")


def funnel(dim: int, spread: float = 3.0) -> Definition:
    """Neal's funnel: ``v ~ N(0, spread^2)``, the others ``N(0, exp(v))``."""
    constant = math.log(spread) + 0.5 * dim * LOG_TWO_PI

    def log_density(x: Tensor) -> Tensor:
        first, rest = x[..., 0], x[..., 1:].square().sum(-1)
        return -0.5 * (first / spread).square() - 0.5 * (dim - 1) * first - 0.5 * rest * torch.exp(-first) - constant

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        first = spread * normal(count, 1, generator=generator)
        return torch.cat([first, (first / 2).exp() * normal(count, dim - 1, generator=generator)], 1)

    return Definition(log_density, (dim,), 0.0, "a narrow neck and a wide mouth", draws)


def wells(num_pairs: int) -> Definition:
    """Independent pairs of a double well and a Gaussian."""

    def log_density(x: Tensor) -> Tensor:
        first, second = x[..., 0::2], x[..., 1::2]
        squared = first.square()
        return (squared * (6 - squared) + 0.5 * first - 0.5 * second.square()).sum(-1)

    well = log_integral(lambda x: (x.square() * (6 - x.square()) + 0.5 * x).squeeze(-1), [(-6.0, 6.0)], 60)
    log_z = num_pairs * (well + 0.5 * LOG_TWO_PI)
    return Definition(log_density, (2 * num_pairs,), log_z, f"{2**num_pairs} wells; log Z by quadrature of one")


def sine_wave() -> Definition:
    """``x ~ N(0, 2^2)`` and ``y`` about ``sin(3 x)`` with standard deviation 0.1, without constants."""

    def log_density(x: Tensor) -> Tensor:
        first, second = x[..., 0], x[..., 1]
        return -0.5 * ((first / 2).square() + ((second - torch.sin(3 * first)) / 0.1).square())

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        first = 2 * normal(count, generator=generator)
        return torch.stack([first, torch.sin(3 * first) + 0.1 * normal(count, generator=generator)], -1)

    return Definition(log_density, (2,), LOG_TWO_PI + math.log(0.2), "a thin wave", draws)


def egg_box() -> Definition:
    """Hills on a square lattice under a Gaussian."""

    def log_density(x: Tensor) -> Tensor:
        return 4 * torch.sin(1.5 * x[..., 0]) * torch.sin(1.5 * x[..., 1]) - 0.5 * (x / 4).square().sum(-1)

    log_z = log_integral(log_density, [(-40.0, 40.0)] * 2, 40)
    return Definition(log_density, (2,), log_z, "a soft checkerboard of hills; log Z by quadrature")


TARGETS: dict[str, Builder] = {
    "twin_shells_2d": partial(shells, 2, (-3.5, 3.5), 2.0, 0.1),
    "twin_shells_10d": partial(shells, 10, (-3.5, 3.5), 2.0, 0.1),
    "twin_shells_30d": partial(shells, 30, (-3.5, 3.5), 2.0, 0.1),
    "wide_shell_20d": partial(shells, 20, (0.0,), 8.0, 0.5),
    "banana_2d": partial(bananas, 1, 3.0, 1.0, 0.1),
    "bananas_mild_10d": partial(bananas, 5, 2.0, 0.3, 0.5),
    "bananas_10d": partial(bananas, 5, 3.0, 1.0, 0.1),
    "rosenbrock_conditional_8d": partial(conditional_rosenbrock, 8, 0.2),
    "rosenbrock_3d": partial(rosenbrock, 3, 5.0),
    "rosenbrock_6d": partial(rosenbrock, 6, 5.0),
    "funnel_3d": partial(funnel, 3),
    "funnel_10d": partial(funnel, 10),
    "funnel_rotated_10d": lambda: rotated(funnel(10), 2, "a funnel whose driver is no coordinate"),
    "many_well_32d": partial(wells, 16),
    "many_well_rotated_8d": lambda: rotated(wells(4), 4, "16 wells along no axis"),
    "many_well_rotated_32d": lambda: rotated(wells(16), 4, "65,536 wells along no axis"),
    "sine_wave_2d": sine_wave,
    "egg_box_2d": egg_box,
}
