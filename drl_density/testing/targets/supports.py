"""Walls, boxes, simplices, and other supports than all reals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.distributions import constraints

from drl_density.testing.targets.quadrature import log_integral
from drl_density.testing.targets.record import LOG_TWO_PI, Builder, Definition, gamma, normal, rotation, uniform


def _walled(inside: Tensor, values: Tensor) -> Tensor:
    return torch.where(inside, values, torch.full_like(values, -math.inf))


def _log_half(z: float) -> float:
    """Log of the mass of N(0, 1) above z."""
    return math.log(0.5 * math.erfc(z / math.sqrt(2)))


def half_normal(dim: int) -> Definition:
    """A Gaussian on positive coordinates, minus infinity elsewhere."""
    return Definition(
        lambda x: _walled((x > 0).all(-1), -0.5 * x.square().sum(-1)),
        (dim,),
        0.5 * dim * math.log(math.pi / 2),
        "walls at zero",
        lambda count, generator: normal(count, dim, generator=generator).abs(),
    )


def half_space(dim: int, distance: float) -> Definition:
    """A normalised Gaussian beyond an oblique wall."""
    direction = rotation(dim, 41)[0]

    def log_density(x: Tensor) -> Tensor:
        inside = x @ direction.to(x) > distance
        return _walled(inside, -0.5 * x.square().sum(-1) - 0.5 * dim * LOG_TWO_PI)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        tail = 0.5 * math.erfc(distance / math.sqrt(2)) * uniform(count, 1, generator=generator)
        along = -torch.special.ndtri(tail)
        x = normal(count, dim, generator=generator)
        return x + (along - (x @ direction)[:, None]) * direction

    return Definition(log_density, (dim,), _log_half(distance), f"an oblique wall at distance {distance:g}", draws)


def boxed_gaussian(dim: int, half: float) -> Definition:
    """A Gaussian in a cube, minus infinity elsewhere."""
    return Definition(
        lambda x: _walled((x.abs() <= half).all(-1), -0.5 * x.square().sum(-1)),
        (dim,),
        dim * (0.5 * LOG_TWO_PI + math.log(math.erf(half / math.sqrt(2)))),
        f"walls at {half:g} on both sides",
        lambda count, generator: torch.special.ndtri(
            0.5 + (uniform(count, dim, generator=generator) - 0.5) * math.erf(half / math.sqrt(2))
        ),
    )


def uniform_ball(dim: int) -> Definition:
    """Constant in the unit ball, minus infinity elsewhere; it has no gradient."""

    def log_density(x: Tensor) -> Tensor:
        return _walled(x.square().sum(-1) <= 1, torch.zeros_like(x[..., 0]))

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        x = normal(count, dim, generator=generator)
        return x / x.norm(dim=-1, keepdim=True) * uniform(count, 1, generator=generator).pow(1 / dim)

    log_z = 0.5 * dim * math.log(math.pi) - math.lgamma(dim / 2 + 1)
    return Definition(log_density, (dim,), log_z, "constant in a ball, without gradient", draws)


def walled_box(dim: int) -> Definition:
    """Constant on the cube from 1 to 3, minus infinity elsewhere."""
    return Definition(
        lambda x: _walled(((x > 1) & (x < 3)).all(-1), torch.zeros_like(x[..., 0])),
        (dim,),
        dim * math.log(2),
        "constant in a cube that does not hold the origin",
        lambda count, generator: 1 + 2 * uniform(count, dim, generator=generator),
    )


def triangle() -> Definition:
    """Constant where both coordinates are positive and sum to less than one."""

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        x = uniform(count, 2, generator=generator)
        return torch.where((x.sum(-1) < 1)[:, None], x, 1 - x)

    def log_density(x: Tensor) -> Tensor:
        return _walled((x > 0).all(-1) & (x.sum(-1) < 1), torch.zeros_like(x[..., 0]))

    return Definition(log_density, (2,), -math.log(2), "constant in a triangle", draws)


def checkerboard() -> Definition:
    """Constant on the eight dark squares of a board from -4 to 4."""

    def log_density(x: Tensor) -> Tensor:
        dark = (x / 2).floor().sum(-1).remainder(2) == 0
        return _walled(dark & (x.abs() < 4).all(-1), torch.zeros_like(x[..., 0]))

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        cell = torch.randint(4, (count,), generator=generator)
        other = 2 * torch.randint(2, (count,), generator=generator) + cell % 2
        corners = 2 * torch.stack([cell, other], -1).double() - 4
        return corners + 2 * uniform(count, 2, generator=generator)

    return Definition(log_density, (2,), math.log(32), "eight separate squares, without gradient", draws)


def nan_gamma(dim: int) -> Definition:
    """Gamma coordinates whose log density is NaN at negative values."""
    return Definition(
        lambda x: (2 * x.log() - x).sum(-1),
        (dim,),
        dim * math.log(2),
        "NaN where a coordinate is negative",
        lambda count, generator: _gamma(3.0, (count, dim), generator),
    )


def on_interval(low: float, high: float, dim: int) -> Definition:
    """Constant on a declared interval in every coordinate."""
    return Definition(
        lambda x: 0 * x.sum(-1),
        (dim,),
        dim * math.log(high - low),
        "constant on a declared interval",
        lambda count, generator: low + (high - low) * uniform(count, dim, generator=generator),
        constraints.independent(constraints.interval(low, high), 1),
    )


def betas(dim: int, first: float, second: float) -> Definition:
    """Beta coordinates on the unit interval, without constants."""

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        a, b = _gamma(first, (count, dim), generator), _gamma(second, (count, dim), generator)
        return a / (a + b)

    one = math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)
    return Definition(
        lambda x: ((first - 1) * x.log() + (second - 1) * torch.log1p(-x)).sum(-1),
        (dim,),
        dim * one,
        "unbounded at both ends of its interval" if max(first, second) < 1 else "on the unit interval",
        draws,
        constraints.independent(constraints.unit_interval, 1),
    )


def gammas(dim: int, shape: float, rate: float) -> Definition:
    """Gamma coordinates on positive reals, without constants."""
    return Definition(
        lambda x: ((shape - 1) * x.log() - rate * x).sum(-1),
        (dim,),
        dim * (math.lgamma(shape) - shape * math.log(rate)),
        "on positive reals",
        lambda count, generator: _gamma(shape, (count, dim), generator) / rate,
        constraints.independent(constraints.positive, 1),
    )


def inverse_gammas(dim: int, shape: float) -> Definition:
    """Inverse gamma coordinates, whose tail is a power."""
    return Definition(
        lambda x: (-(shape + 1) * x.log() - 1 / x).sum(-1),
        (dim,),
        dim * math.lgamma(shape),
        f"on positive reals, tails of power {shape + 1:g}",
        lambda count, generator: 1 / _gamma(shape, (count, dim), generator),
        constraints.independent(constraints.positive, 1),
    )


def log_normals(dim: int, spread: float) -> Definition:
    """Log-normal coordinates, without constants."""
    return Definition(
        lambda x: (-x.log() - 0.5 * (x.log() / spread).square()).sum(-1),
        (dim,),
        dim * (0.5 * LOG_TWO_PI + math.log(spread)),
        "on positive reals, skewed",
        lambda count, generator: (spread * normal(count, dim, generator=generator)).exp(),
        constraints.independent(constraints.positive, 1),
    )


def rotor_chain(num_sites: int, strength: float) -> Definition:
    """Angles of an open chain of rotors, ``strength sum_i cos(x_{i+1} - x_i)``, on the interval from -pi to pi."""
    bessel = float(torch.special.i0(torch.tensor(strength, dtype=torch.float64)).log())
    return Definition(
        lambda x: strength * torch.cos(x[..., 1:] - x[..., :-1]).sum(-1),
        (num_sites,),
        num_sites * math.log(2 * math.pi) + (num_sites - 1) * bessel,
        "angles, whose ends of the interval are one point",
        None,
        constraints.independent(constraints.interval(-math.pi, math.pi), 1),
    )


def dirichlet(concentration: Sequence[float]) -> Definition:
    """A Dirichlet density on the simplex, without constants, over all but its last coordinate."""
    powers = torch.tensor(concentration, dtype=torch.float64)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        parts = gamma(powers.expand(count, -1), generator=generator)
        return parts / parts.sum(-1, keepdim=True)

    return Definition(
        lambda x: ((powers.to(x) - 1) * x.log()).sum(-1),
        (len(powers),),
        _log_beta(powers),
        "on the simplex",
        draws,
        constraints.simplex,
    )


def stick_breaking_dirichlet(dim: int, concentration: float) -> Definition:
    """A Dirichlet density of one concentration in log-odds of broken sticks, free of rounding at the corners.

    Stick i is broken at a share ``sigmoid(u_i)``, which is ``Beta(c, (dim - i) c)`` and independent of the others.
    """
    rest = concentration * torch.arange(dim - 1, 0, -1, dtype=torch.float64)

    def log_density(u: Tensor) -> Tensor:
        up, down = torch.nn.functional.logsigmoid(u), torch.nn.functional.logsigmoid(-u)
        return (concentration * up + rest.to(u) * down).sum(-1)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        first = _log_gamma_draws(torch.full((count, dim - 1), concentration, dtype=torch.float64), generator)
        return first - _log_gamma_draws(rest.expand(count, -1), generator)

    log_z = _log_beta(torch.full((dim,), concentration, dtype=torch.float64))
    return Definition(log_density, (dim - 1,), log_z, "Dirichlet by broken sticks, exponential tails", draws)


def _log_beta(powers: Tensor) -> float:
    return float(torch.lgamma(powers).sum() - torch.lgamma(powers.sum()))


def _gamma(shape: float, size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return gamma(torch.full(size, shape, dtype=torch.float64), generator=generator)


def _log_gamma_draws(shapes: Tensor, generator: torch.Generator | None) -> Tensor:
    """Logarithms of gamma draws that do not underflow: ``Gamma(a) = Gamma(a + 1) U^(1 / a)``."""
    boosted = gamma(shapes + 1, generator=generator).log()
    return boosted + uniform(*shapes.shape, generator=generator).log() / shapes


def ordered_dirichlet(dim: int, concentration: float) -> Definition:
    """A Dirichlet density of one concentration where the shares rise, minus infinity elsewhere."""
    powers = torch.full((dim,), concentration, dtype=torch.float64)

    def log_density(x: Tensor) -> Tensor:
        return _walled((x[..., 1:] > x[..., :-1]).all(-1), (concentration - 1) * x.log().sum(-1))

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        parts = _gamma(concentration, (count, dim), generator)
        return (parts / parts.sum(-1, keepdim=True)).sort(-1).values

    log_z = _log_beta(powers) - math.lgamma(dim + 1)
    return Definition(log_density, (dim,), log_z, "walls inside a simplex", draws, constraints.simplex)


def von_mises(concentrations: Sequence[float], means: Sequence[float]) -> Definition:
    """Independent von Mises densities of angles, whose circle is cut at pi."""
    from scipy.special import ive

    sharp, places = (torch.tensor(part, dtype=torch.float64) for part in (concentrations, means))
    log_z = sum(LOG_TWO_PI + math.log(float(ive(0, value))) + value for value in concentrations)
    return Definition(
        lambda x: (sharp.to(x) * torch.cos(x - places.to(x))).sum(-1),
        (len(places),),
        log_z,
        "angles, of which one has its mode near the cut",
        support=constraints.interval(-math.pi, math.pi),
    )


def coupled_angles() -> Definition:
    """Two angles under the sine model, which has two modes."""

    def log_density(x: Tensor) -> Tensor:
        first, second = x[..., 0] - 0.5, x[..., 1] + 1
        return 3 * torch.cos(first) + 2 * torch.cos(second) + 4 * torch.sin(first) * torch.sin(second)

    log_z = log_integral(log_density, [(-math.pi, math.pi)] * 2, 6)
    notes = "two coupled angles, two modes; log Z by quadrature"
    return Definition(log_density, (2,), log_z, notes, support=constraints.interval(-math.pi, math.pi))


TARGETS: dict[str, Builder] = {
    "half_normal_2d": partial(half_normal, 2),
    "half_space_2d": partial(half_space, 2, 0.0),
    "half_space_oblique_10d": partial(half_space, 10, 2.0),
    "tail_beyond_4_1d": partial(half_space, 1, 4.0),
    "boxed_gaussian_wide_2d": partial(boxed_gaussian, 2, 6.0),
    "boxed_gaussian_narrow_5d": partial(boxed_gaussian, 5, 0.5),
    "uniform_ball_10d": partial(uniform_ball, 10),
    "walled_box_3d": partial(walled_box, 3),
    "triangle_2d": triangle,
    "checkerboard_2d": checkerboard,
    "nan_gamma_4d": partial(nan_gamma, 4),
    "interval_box_3d": partial(on_interval, -2.0, 3.0, 3),
    "beta_4d": partial(betas, 4, 2.0, 5.0),
    "beta_horns_4d": partial(betas, 4, 0.4, 0.3),
    "gamma_5d": partial(gammas, 5, 3.0, 2.0),
    "gamma_spiky_5d": partial(gammas, 5, 0.3, 1.0),
    "inverse_gamma_4d": partial(inverse_gammas, 4, 2.0),
    "log_normal_5d": partial(log_normals, 5, 1.5),
    "rotor_chain_6d": partial(rotor_chain, 6, 1.0),
    "dirichlet_simplex_6d": partial(dirichlet, [1.0] * 7),
    "dirichlet_sparse_simplex_4d": partial(dirichlet, [0.3, 0.5, 1.0, 2.0, 0.3]),
    "dirichlet_1_9d": partial(stick_breaking_dirichlet, 10, 1.0),
    "dirichlet_0.3_9d": partial(stick_breaking_dirichlet, 10, 0.3),
    "dirichlet_0.1_9d": partial(stick_breaking_dirichlet, 10, 0.1),
    "ordered_simplex_4d": partial(ordered_dirichlet, 5, 2.0),
    "von_mises_4d": partial(von_mises, (0.5, 2.0, 20.0, 500.0), (0.0, 3.0, -1.0, 2.0)),
    "coupled_angles_2d": coupled_angles,
}
