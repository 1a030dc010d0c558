"""Heavy and light tails, flat tops, and densities whose integral diverges."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from drl_density.testing.targets.record import Builder, Definition, gamma, normal, rotated, uniform


def student_product(dim: int, freedom: float) -> Definition:
    """Independent Student's t coordinates, without constants."""

    def log_density(x: Tensor) -> Tensor:
        return -0.5 * (freedom + 1) * torch.log1p(x.square() / freedom).sum(-1)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        scale = _chi_square(freedom, (count, dim), generator) / freedom
        return normal(count, dim, generator=generator) / scale.sqrt()

    one = math.lgamma(freedom / 2) + 0.5 * math.log(freedom * math.pi) - math.lgamma((freedom + 1) / 2)
    return Definition(log_density, (dim,), dim * one, f"each coordinate has tails of power {freedom + 1:g}", draws)


def multivariate_student(dim: int, freedom: float) -> Definition:
    """Multivariate t, without constants: all coordinates share one scale."""

    def log_density(x: Tensor) -> Tensor:
        return -0.5 * (freedom + dim) * torch.log1p(x.square().sum(-1) / freedom)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        scale = _chi_square(freedom, (count, 1), generator) / freedom
        return normal(count, dim, generator=generator) / scale.sqrt()

    log_z = math.lgamma(freedom / 2) + 0.5 * dim * math.log(freedom * math.pi) - math.lgamma((freedom + dim) / 2)
    return Definition(log_density, (dim,), log_z, f"the radius has a tail of power {freedom + 1:g}", draws)


def powered(dim: int, power: float, notes: str) -> Definition:
    """A product of ``exp(-|x|^power)``."""

    def log_density(x: Tensor) -> Tensor:
        return -x.abs().pow(power).sum(-1)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        magnitude = gamma(torch.full((count, dim), 1 / power, dtype=torch.float64), generator=generator).pow(1 / power)
        return torch.where(uniform(count, dim, generator=generator) < 0.5, magnitude, -magnitude)

    return Definition(log_density, (dim,), dim * (math.log(2) + math.lgamma(1 + 1 / power)), notes, draws)


def student_pair(dim: int, freedom: float, distance: float) -> Definition:
    """Two multivariate t, normalised, of weights 0.3 and 0.7."""
    one = multivariate_student(dim, freedom)
    shift = torch.zeros(dim, dtype=torch.float64)
    shift[0] = distance
    inner = one.draws
    assert inner is not None

    def log_density(x: Tensor) -> Tensor:
        near, far = one.log_density(x), one.log_density(x - shift.to(x))
        return torch.logaddexp(math.log(0.3) + near, math.log(0.7) + far) - one.log_z

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        is_far = (uniform(count, 1, generator=generator) < 0.7).double()
        return inner(count, generator) + is_far * shift

    return Definition(log_density, (dim,), 0.0, "two heavy-tailed modes", draws)


def power_tail(power: float) -> Definition:
    """``(1 + |x|)^-power`` on the line, whose integral is ``2 / (power - 1)`` for powers above 1."""

    def log_density(x: Tensor) -> Tensor:
        return -power * torch.log1p(x.abs()).sum(-1)

    if power <= 1:
        return Definition(log_density, (1,), math.inf, "the integral diverges as a logarithm does")

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        magnitude = uniform(count, 1, generator=generator).pow(-1 / (power - 1)) - 1
        return torch.where(uniform(count, 1, generator=generator) < 0.5, magnitude, -magnitude)

    return Definition(log_density, (1,), math.log(2 / (power - 1)), "the integral hardly converges", draws)


def logistic(dim: int) -> Definition:
    """Independent logistic coordinates, normalised, ten times as wide as the standard ones."""

    def log_density(x: Tensor) -> Tensor:
        magnitude = x.abs() / 10
        return (-magnitude - 2 * torch.nn.functional.softplus(-magnitude)).sum(-1)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        return 10 * uniform(count, dim, generator=generator).logit()

    return Definition(log_density, (dim,), dim * math.log(10), "exponential tails", draws)


def flat() -> Definition:
    """A constant over the whole plane."""
    return Definition(lambda x: 0 * x.sum(-1), (2,), math.inf, "a constant over the plane; the integral diverges")


def ridge() -> Definition:
    """A Gaussian of the difference of two coordinates, whose sum is free."""
    return Definition(
        lambda x: -0.5 * (x[..., 0] - x[..., 1]).square(), (2,), math.inf, "free along a diagonal; the integral diverges"
    )


def rising() -> Definition:
    """Falls along all axes, and along one oblique line only as 1 / r."""

    def log_density(x: Tensor) -> Tensor:
        along, across = x[..., 0] + 2 * x[..., 1], 2 * x[..., 0] - x[..., 1]
        return -0.5 * torch.log1p(along.square()) - 0.5 * across.square() - 0.5 * x[..., 2].square()

    return Definition(log_density, (3,), math.inf, "falls as 1 / r along one oblique line; the integral diverges")


def _chi_square(freedom: float, size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return 2 * gamma(torch.full(size, freedom / 2, dtype=torch.float64), generator=generator)


TARGETS: dict[str, Builder] = {
    "cauchy_1d": partial(student_product, 1, 1.0),
    "cauchy_10d": partial(student_product, 10, 1.0),
    "student_3_product_5d": partial(student_product, 5, 3.0),
    "student_2_rotated_6d": lambda: rotated(student_product(6, 2.0), 1, "independent t(2) coordinates along no axis"),
    "multivariate_t2_10d": partial(multivariate_student, 10, 2.0),
    "multivariate_cauchy_3d": partial(multivariate_student, 3, 1.0),
    "student_pair_6d": partial(student_pair, 6, 5.0, 12.0),
    "laplace_10d": partial(powered, 10, 1.0, "a kink at the mode, exponential tails"),
    "root_tails_3d": partial(powered, 3, 0.5, "a cusp at the mode, tails as exp(-sqrt|x|)"),
    "flat_top_4d": partial(powered, 4, 8.0, "flat in the middle, steep at the edge"),
    "logistic_5d": partial(logistic, 5),
    "barely_proper_1d": partial(power_tail, 1.5),
    "improper_log_1d": partial(power_tail, 1.0),
    "improper_flat_2d": flat,
    "improper_ridge_2d": ridge,
    "improper_oblique_3d": rising,
}
