"""What is known of a target: its density, its log Z, and exact draws where they are easy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import constraints

from drl_density.distributions import EnergyDistribution
from drl_density.records.brief import brief

LOG_TWO_PI = math.log(2 * math.pi)

ExactDraws = Callable[[int, torch.Generator | None], Tensor]
"""Independent draws of a target, a function of their number and a generator."""


@dataclass(frozen=True, eq=False)
class Definition:
    """A target before it has a name.

    Attributes:
        log_density: unnormalised log density of points ``(*, *event)``, shape ``(*,)``.
        shape: shape of one point.
        log_z: exact log Z in nats; infinity where the integral diverges.
        notes: what makes the target hard, and where its log Z comes from.
        draws: exact draws, where they are easy.
        support: constraint of a point; all reals by default.
    """

    log_density: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    log_z: float
    notes: str
    draws: ExactDraws | None = None
    support: constraints.Constraint | None = None


Builder = Callable[[], Definition]
"""Builds a target. Truths by quadrature and enumeration are computed then, and not at import."""


@dataclass(frozen=True, eq=False)
class KnownTarget:
    """An unnormalised target whose log Z is known.

    Attributes:
        name: name of the target, as in :func:`known_target_names`.
        family: kind of target, the name of its module.
        target: unnormalised distribution, as :func:`drl_density.sandwich` takes it.
        log_z: exact log Z in nats; infinity where the integral diverges.
        dim: number of free coordinates.
        notes: what makes the target hard, and where its log Z comes from.
        draws: exact draws ``draws(num_samples, generator)`` in float64, where they are easy.
    """

    name: str
    family: str
    target: EnergyDistribution
    log_z: float
    dim: int
    notes: str
    draws: ExactDraws | None = None

    __repr__ = brief

    @property
    def is_proper(self) -> bool:
        """Whether the integral is finite, so that log Z is a number."""
        return math.isfinite(self.log_z)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Make exact, independent draws ``(num_samples, *event)`` in float64.

        Raises:
            NotImplementedError: a target without exact draws.
        """
        if self.draws is None:
            raise NotImplementedError(f"the target {self.name!r} has no exact draws; those that do have `draws`")
        return self.draws(num_samples, generator)


def named(name: str, family: str, definition: Definition) -> KnownTarget:
    """Give a definition its name, and make it a distribution in float64."""
    support = definition.support
    target = EnergyDistribution(
        definition.log_density,
        definition.shape,
        support=support,
        like=torch.empty(0, dtype=torch.float64),
        is_integrable=math.isfinite(definition.log_z),
    )
    dim = math.prod(definition.shape) - (support is constraints.simplex)
    return KnownTarget(name, family, target, definition.log_z, dim, definition.notes, definition.draws)


def normal(*shape: int, generator: torch.Generator | None) -> Tensor:
    """Independent draws of N(0, 1) in float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def uniform(*shape: int, generator: torch.Generator | None) -> Tensor:
    """Independent draws of the uniform distribution on (0, 1) in float64."""
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def gamma(shapes: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """Independent draws of Gamma(shape, 1), one for every shape, in float64."""
    # The draws of torch.distributions.Gamma take no generator.
    return torch._standard_gamma(shapes.double(), generator=generator)  # pyright: ignore[reportPrivateImportUsage]


def fixed(seed: int) -> torch.Generator:
    """The generator of the numbers that define a target, which are the same in every process."""
    return torch.Generator().manual_seed(seed)


def rotation(dim: int, seed: int) -> Tensor:
    """A random orthogonal matrix ``(dim, dim)`` in float64."""
    return torch.linalg.qr(normal(dim, dim, generator=fixed(seed)))[0]


def rotated(definition: Definition, seed: int, notes: str) -> Definition:
    """The target of ``rotation @ x`` in place of x, with the same log Z."""
    (dim,) = definition.shape
    matrix, inner = rotation(dim, seed), definition.draws

    def log_density(x: Tensor) -> Tensor:
        return definition.log_density(x @ matrix.to(x))

    draws = None if inner is None else (lambda count, generator: inner(count, generator) @ matrix.T)
    return Definition(log_density, definition.shape, definition.log_z, notes, draws)
