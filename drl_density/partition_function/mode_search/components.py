"""Gaussian and heavy-tailed components at the modes of a target, sized by the mass that they explain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.mcmc import LogDensity
from drl_density.partition_function.annealing.path import evaluated
from drl_density.partition_function.mode_search.shape import Shape
from drl_density.partition_function.target_bases.mixture import MixtureBase
from drl_density.partition_function.target_bases.scale_base import LOG_TWO_PI
from drl_density.weights import log_mean_exp, weight_ess

DEGREES = 5.0
"""Degrees of freedom of the heavy-tailed twin of each Gaussian: weights stay bounded under tails down to that of t(5)."""
NUM_DRAWS, MOST_PASSES = 2048, 6
"""Draws of one pass that sizes the components, and the largest number of passes."""
EFFICIENT = 0.5
"""Effective share of the draws at which the sizes count as found."""


class ComponentBase:
    """A mixture of one Gaussian and one Student t with 5 degrees of freedom at every shape.

    Args:
        shapes: places and widths ``K``.
        weights: share of each Gaussian, then of each Student t, ``(2, K)``, adding to 1.
        like: tensor of the dtype of draws and log densities; everything is computed in float64.
    """

    def __init__(self, shapes: Sequence[Shape], weights: Tensor, like: Tensor | None = None) -> None:
        self.shapes, self.weights = tuple(shapes), weights.double()
        self.like = self.weights if like is None else like
        dim = len(shapes[0].center)
        self.event_shape = torch.Size((dim,))
        self._centers = torch.stack([shape.center for shape in shapes])
        self._factors = torch.stack([shape.factor for shape in shapes])
        inverses = torch.stack([shape.inverse for shape in shapes])
        self._whiten = inverses.reshape(-1, dim).T.contiguous()
        self._shift = torch.einsum("kij,kj->ki", inverses, self._centers).flatten()
        self._volumes = torch.tensor([shape.log_volume for shape in shapes], dtype=torch.float64)
        self._student = (
            math.lgamma((DEGREES + dim) / 2) - math.lgamma(DEGREES / 2) - dim / 2 * math.log(DEGREES * math.pi)
        )

    @property
    def local(self) -> MixtureBase:
        """The Gaussians alone, whose covariances give kernels a local scale."""
        shares = self.weights.sum(0)
        return MixtureBase(shares / shares.sum(), self._centers, self._factors @ self._factors.mT, self.like)

    def largest(self, number: int) -> ComponentBase:
        """The components at the places with the largest shares, at most ``number`` of them."""
        kept = self.weights.sum(0).argsort(descending=True)[:number]
        weights = self.weights[:, kept]
        return ComponentBase([self.shapes[int(index)] for index in kept], weights / weights.sum(), self.like)

    def log_gaussians(self, x: Tensor) -> Tensor:
        """Log density of the Gaussians alone, with their weights, at rows ``(n, d)``, ``(n,)``."""
        return (self._log_normals(self._squared_distances(x)) - self._volumes + self.weights[0].log()).logsumexp(1)

    def log_joint(self, x: Tensor) -> Tensor:
        """Log weight plus log density of every component at rows ``(n, d)``, ``(n, 2, K)``."""
        squared = self._squared_distances(x)
        student = self._student - 0.5 * (DEGREES + self.event_shape[0]) * torch.log1p(squared / DEGREES)
        return torch.stack([self._log_normals(squared), student], 1) - self._volumes + self.weights.log()

    def _squared_distances(self, x: Tensor) -> Tensor:
        """Squared distances of rows from every center, in widths of its component, ``(n, K)``."""
        whitened = (x.double() @ self._whiten - self._shift).unflatten(1, (len(self.shapes), -1))
        return whitened.square().sum(-1)

    def _log_normals(self, squared: Tensor) -> Tensor:
        """Log densities of standard normals at squared distances ``(n, K)``."""
        return -0.5 * (squared + self.event_shape[0] * LOG_TWO_PI)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        return self.log_joint(x).flatten(1).logsumexp(1).to(self.like)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        chosen = torch.multinomial(self.weights.flatten(), num_rows, replacement=True, generator=generator)
        index, is_student = chosen % len(self.shapes), chosen >= len(self.shapes)
        noise = normal_draws((num_rows, self.event_shape[0]), self._centers, generator)
        chi = normal_draws((num_rows, int(DEGREES)), self._centers, generator).square().mean(1).sqrt()
        noise = noise / torch.where(is_student, chi, torch.ones_like(chi))[:, None]
        x = torch.empty_like(noise)
        for place in index.unique().tolist():  # a matrix for each row would take far more memory
            own = index == place
            x[own] = self.shapes[place].color(noise[own])
        return x.to(self.like)


@dataclass(frozen=True)
class Sized:
    """Components with their sizes, and what importance sampling from them says.

    Attributes:
        base: the components.
        log_z: log Z by importance sampling from them, nats.
        efficiency: effective share of the draws.
        draws: draws of the last pass ``(n, d)``.
        log_weights: their log weights ``(n,)``.
    """

    base: ComponentBase
    log_z: float
    efficiency: float
    draws: Tensor
    log_weights: Tensor

    def explained(self) -> Tensor:
        """Share of the mass that each component explains ``(2, K)``, near its present share where draws are few."""
        joint = self.base.log_joint(self.draws.double()).flatten(1)
        shares = (self.log_weights.softmax(0)[:, None] * joint.softmax(1)).sum(0).reshape(2, -1)
        effective = self.efficiency * len(self.draws)
        trust = effective / (effective + 2 * shares.numel())
        return trust * shares + (1 - trust) * self.base.weights

    def refined(self, least: float) -> ComponentBase:
        """The components with the shares that they explain, without places below a share; the largest stays."""
        if not self.efficiency:
            return self.base
        shares = self.explained()
        by_place = shares.sum(0)
        (kept,) = (by_place >= min(least, float(by_place.max()))).nonzero(as_tuple=True)
        weights = shares[:, kept]
        return ComponentBase([self.base.shapes[int(index)] for index in kept], weights / weights.sum(), self.base.like)

    def shares(self, labels: Tensor, count: int) -> Tensor:
        """Share of the target's mass with each label ``(count,)``, from labels of the draws ``(n,)``."""
        return torch.zeros(count, dtype=torch.float64).index_add(0, labels, self.log_weights.softmax(0))


def size_components(
    log_density: LogDensity,
    shapes: Sequence[Shape],
    *,
    num_draws: int = NUM_DRAWS,
    like: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Sized:
    """Give each component the share of the target's mass that it explains, by repeated importance sampling.

    Every pass draws from the mixture, weighs the draws by target over mixture, and shares each weight out by
    responsibilities. With few effective draws the sizes stay near even, so that no component dies by chance.

    Args:
        log_density: maps rows ``(n, d)`` to ``(n,)``.
        shapes: places and widths.
        num_draws: draws of one pass.
        like: tensor of the dtype in which the components are returned.

    Source: Cappe, Guillin, Marin and Robert 2008 (adaptive importance sampling in mixtures).
    """
    count = 2 * len(shapes)
    weights = torch.full((2, len(shapes)), 1 / count, dtype=torch.float64)
    found = _weighed(log_density, ComponentBase(shapes, weights, like), num_draws, generator)
    for _ in range(MOST_PASSES - 1):
        if not found.efficiency:
            break
        weights = 0.98 * found.explained() + 0.02 / count
        found = _weighed(log_density, ComponentBase(shapes, weights, like), num_draws, generator)
        if found.efficiency >= EFFICIENT:
            break
    return found


def _weighed(log_density: LogDensity, base: ComponentBase, num_draws: int, generator: torch.Generator | None) -> Sized:
    """Importance sampling from components."""
    x = base.draw(num_draws, generator)
    values = evaluated(log_density, x)
    values = torch.where(values.isnan(), -torch.inf, values)  # not-a-number counts as a density of zero
    log_weights = values - base.log_joint(x).flatten(1).logsumexp(1)
    if not bool(log_weights.isfinite().any()):
        return Sized(base, -math.inf, 0.0, x, log_weights)
    return Sized(base, float(log_mean_exp(log_weights)), float(weight_ess(log_weights)) / num_draws, x, log_weights)
