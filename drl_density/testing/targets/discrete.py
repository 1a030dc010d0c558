"""Lattice models and models with discrete variables, whose sums are carried out exactly."""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch
from torch import Tensor

from drl_density.testing.targets.quadrature import log_normal_density, rule
from drl_density.testing.targets.record import LOG_TWO_PI, Builder, Definition, fixed, normal, uniform


def spins(dim: int) -> Tensor:
    """All rows of plus and minus one, ``(2^dim, dim)``."""
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=dim)), dtype=torch.float64)


def lattice(side: int, strength: float, *, seed: int | None = None) -> Tensor:
    """Couplings ``(n, n)`` between neighbours of a square lattice with open ends, of random sign where a seed is given."""
    index = torch.arange(side**2).reshape(side, side)
    pairs = torch.cat(
        [
            torch.stack([index[:, :-1], index[:, 1:]], -1).reshape(-1, 2),
            torch.stack([index[:-1], index[1:]], -1).reshape(-1, 2),
        ]
    )
    signs = torch.ones(len(pairs)) if seed is None else uniform(len(pairs), generator=fixed(seed)).round() * 2 - 1
    couplings = torch.zeros(side**2, side**2, dtype=torch.float64)
    couplings[pairs[:, 0], pairs[:, 1]] = strength * signs.double()
    return couplings + couplings.T


def log_spin_sum(couplings: Tensor, side: int) -> float:
    """Logarithm of the sum of ``exp(s J s / 2)`` over all spins of a square lattice, row after row."""
    states = spins(side)
    total = torch.zeros(len(states), dtype=torch.float64)
    for row in range(side):
        own = slice(row * side, (row + 1) * side)
        total = total + 0.5 * ((states @ couplings[own, own]) * states).sum(-1)
        if row + 1 < side:
            below = slice((row + 1) * side, (row + 2) * side)
            total = (total + (states @ couplings[own, below] @ states.T).T).logsumexp(1)
    return float(total.logsumexp(0))


def ising(side: int, strength: float, *, seed: int | None = None) -> Definition:
    """The continuous relaxation of an Ising model: a spin sum as a Gaussian integral.

    With ``A = J + c I`` positive definite, ``sum_s exp(s A s / 2)`` is the integral of ``N(x; 0, A) prod_i 2 cosh(x_i)``.
    """
    couplings = lattice(side, strength, seed=seed)
    dim = side**2
    shift = 0.1 - float(torch.linalg.eigvalsh(couplings)[0])
    factor = torch.linalg.cholesky(couplings + shift * torch.eye(dim).double())
    precision = torch.cholesky_inverse(factor)
    constant = -float(factor.diagonal().log().sum()) - 0.5 * dim * LOG_TWO_PI

    def log_density(x: Tensor) -> Tensor:
        quadratic = (x * (x @ precision.to(x))).sum(-1)
        return constant - 0.5 * quadratic + torch.logaddexp(x, -x).sum(-1)

    draws = _spin_draws(couplings, shift, factor) if dim <= 16 else None
    kind = "signs of couplings at random" if seed is not None else "couplings of one sign"
    notes = f"Gaussian relaxation of an Ising lattice, {kind}; log Z by summing rows of spins"
    return Definition(log_density, (dim,), log_spin_sum(couplings, side) + 0.5 * dim * shift, notes, draws)


def _spin_draws(couplings: Tensor, shift: float, factor: Tensor):
    """Exact draws: spins by enumeration, then ``x ~ N(A s, A)``."""
    states = spins(len(couplings))
    shares = (0.5 * ((states @ couplings) * states).sum(-1)).softmax(0)
    matrix = couplings + shift * torch.eye(len(couplings)).double()

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        chosen = states[torch.multinomial(shares, count, replacement=True, generator=generator)]
        return chosen @ matrix + normal(count, len(matrix), generator=generator) @ factor.T

    return draws


def field_chain(num_sites: int, stiffness: float, depth: float) -> Definition:
    """A ring of phi^4 sites: ``-sum_i stiffness (x_{i+1} - x_i)^2 / 2 + depth (x_i^2 - 1)^2``."""

    def site(x: Tensor) -> Tensor:
        return -depth * (x.square() - 1).square()

    def log_density(x: Tensor) -> Tensor:
        return (site(x) - 0.5 * stiffness * (x.roll(-1, -1) - x).square()).sum(-1)

    grid = rule(-4.0, 4.0, 20)
    half = 0.5 * (site(grid.points) + grid.log_weights)
    operator = (half + half[:, None] - 0.5 * stiffness * (grid.points - grid.points[:, None]).square()).exp()
    values = torch.linalg.eigvalsh(operator)
    largest = values[-1]
    log_z = num_sites * float(largest.log()) + float((values / largest).pow(num_sites).sum().log())
    notes = "a ring of double wells; log Z from the spectrum of its transfer operator"
    return Definition(log_density, (num_sites,), log_z, notes)


def label_switching(num_parts: int, num_rows: int) -> Definition:
    """Means of a Gaussian mixture with N(0, 3^2) priors, even weights and unit variances; labels are summed out."""
    centers = 4 * (torch.arange(num_parts).double() - (num_parts - 1) / 2)
    y = centers.repeat(num_rows)[:num_rows] + 0.7 * normal(num_rows, generator=fixed(11))

    def log_density(x: Tensor) -> Tensor:
        parts = log_normal_density(y.to(x)[:, None] - x[..., None, :], 1.0) - math.log(num_parts)
        return log_normal_density(x, 9.0).sum(-1) + parts.logsumexp(-1).sum(-1)

    labels = torch.tensor(list(itertools.product(range(num_parts), repeat=num_rows)))
    total = torch.full((len(labels),), -num_rows * math.log(num_parts), dtype=torch.float64)
    for part in range(num_parts):
        total = total + _evidence_of_mean(y, (labels == part).double(), 9.0)
    notes = f"{math.factorial(num_parts)} copies of one mode; log Z by enumerating the labels"
    return Definition(log_density, (num_parts,), float(total.logsumexp(0)), notes)


def hidden_chain(num_steps: int) -> Definition:
    """Two means of a hidden Markov chain, N(0, 3^2) priors, unit variances; the states are summed out."""
    stay = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64).log()
    states = torch.arange(num_steps) // 4 % 2
    y = 3.0 * states.double() - 1.0 + normal(num_steps, generator=fixed(12))

    def log_density(x: Tensor) -> Tensor:
        emitted = log_normal_density(y.to(x)[:, None] - x[..., None, :], 1.0)
        forward = emitted[..., 0, :] - math.log(2)
        for step in range(1, num_steps):
            forward = (forward[..., :, None] + stay.to(x)).logsumexp(-2) + emitted[..., step, :]
        return log_normal_density(x, 9.0).sum(-1) + forward.logsumexp(-1)

    paths = torch.tensor(list(itertools.product((0, 1), repeat=num_steps)))
    total = stay[paths[:, :-1], paths[:, 1:]].sum(1) - math.log(2)
    for state in (0, 1):
        total = total + _evidence_of_mean(y, (paths == state).double(), 9.0)
    notes = "hidden states summed out; log Z by enumerating their paths"
    return Definition(log_density, (2,), float(total.logsumexp(0)), notes)


def change_point(num_steps: int) -> Definition:
    """Logarithms of two Poisson rates with Gamma(2, 1) priors, whose time of change is summed out."""
    counts = torch.tensor([4, 5, 3, 6, 4, 2, 5, 1, 0, 1, 2, 1, 0, 1, 3, 1][:num_steps], dtype=torch.float64)
    factorials = float(torch.lgamma(counts + 1).sum())
    before, steps = counts.cumsum(0)[:-1], torch.arange(1, num_steps).double()
    after = counts.sum() - before
    constant = -math.log(num_steps - 1) - factorials

    def log_density(x: Tensor) -> Tensor:
        prior = (2 * x - x.exp()).sum(-1)
        first, second = x[..., :1], x[..., 1:]
        likelihood = before.to(x) * first - steps.to(x) * first.exp()
        likelihood = likelihood + after.to(x) * second - (num_steps - steps.to(x)) * second.exp()
        return prior + likelihood.logsumexp(-1) + constant

    parts = torch.lgamma(2 + before) - (2 + before) * (1 + steps).log()
    parts = parts + torch.lgamma(2 + after) - (2 + after) * (1 + num_steps - steps).log()
    notes = "time of change summed out; log Z by enumerating it"
    return Definition(log_density, (2,), float(parts.logsumexp(0)) + constant, notes)


def _evidence_of_mean(y: Tensor, members: Tensor, variance: float) -> Tensor:
    """Log evidence of unit-variance rows about a common mean ~ N(0, variance), for every row of memberships."""
    count, total, squares = members.sum(1), members @ y, members @ y.square()
    gain = variance / (1 + variance * count)
    return -0.5 * (count * LOG_TWO_PI + (1 + variance * count).log() + squares - gain * total.square())


TARGETS: dict[str, Builder] = {
    "ising_3x3": partial(ising, 3, 0.3),
    "ising_cold_4x4": partial(ising, 4, 0.7),
    "ising_8x8": partial(ising, 8, 0.35),
    "spin_glass_4x4": partial(ising, 4, 0.8, seed=6),
    "spin_glass_8x8": partial(ising, 8, 0.8, seed=7),
    "field_ring_16": partial(field_chain, 16, 1.0, 0.5),
    "field_ring_deep_16": partial(field_chain, 16, 4.0, 2.0),
    "field_ring_64": partial(field_chain, 64, 1.0, 0.5),
    "label_switching_2": partial(label_switching, 2, 12),
    "label_switching_3": partial(label_switching, 3, 9),
    "hidden_chain_12": partial(hidden_chain, 12),
    "change_point_16": partial(change_point, 16),
}
