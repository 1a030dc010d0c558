"""Paths of unnormalised densities from a normalised base to a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from drl_density.devices import globally_seeded, normal_draws
from drl_density.errors import NumericalError
from drl_density.mcmc import LogDensity
from drl_density.model import EnergySequence


class SampledBase(Protocol):
    """A normalised distribution that draws from torch's global generator, such as any of Pyro's."""

    def log_prob(self, value: Any, /) -> Tensor:
        """Normalised log density of rows."""
        ...

    def sample(self, sample_shape: Any = ..., /) -> Tensor:
        """Independent draws ``sample_shape + event_shape``."""
        ...


@runtime_checkable
class ExactBase(Protocol):
    """A normalised distribution that draws from a given generator."""

    def log_prob(self, value: Any, /) -> Tensor:
        """Normalised log density of rows."""
        ...

    def draw(self, num_rows: int, generator: torch.Generator | None, /) -> Tensor:
        """Independent draws ``(num_rows, *event)``."""
        ...


Base = SampledBase | ExactBase
"""What an annealing path can begin at."""
BaseDraws = Callable[[int, torch.Generator | None], Tensor]
"""``draw(num_rows, generator)``: exact draws of a base ``(num_rows, *event)``."""


@dataclass(frozen=True)
class AnnealingPath:
    """Densities from a normalised base to a target.

    Attributes:
        base: normalised distribution whose draws are exact.
        log_densities: unnormalised log densities after the base, the target last; each maps rows to ``(rows,)``.
        draw: exact draws of the base, ``draw(num_rows, generator)`` with shape ``(num_rows, *event)``.
        levels: continuous level of each density along a sequence, its annealing on a geometric path.
        is_sequence: whether the densities are noise levels, along which modes join before they part.

    >>> import pyro.distributions as dist
    >>> path = geometric_path(dist.Normal(0.0, 1.0), lambda x: -2 * x**2, num_bridges=4)
    >>> path.draw(3, None).shape
    torch.Size([3])
    """

    base: Base
    log_densities: tuple[LogDensity, ...]
    draw: BaseDraws
    levels: tuple[float, ...]
    is_sequence: bool = False


def sequence_path(model: EnergySequence, *, level: float = 0.0, steps_per_level: int = 4) -> AnnealingPath:
    """The noise sequence itself as a path: N(0, I), then F at continuous levels from T down to ``level``.

    Args:
        level: continuous level at which the path ends.
        steps_per_level: densities per unit of level.

    Raises:
        NumericalError: an improper model, whose exp(F) is not known to have a finite integral.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> path = sequence_path(model, steps_per_level=2)
    >>> len(path.log_densities), path.levels[0], path.levels[-1]
    (17, 8.0, 0.0)
    """
    check_integrable(model)
    num_steps = max(1, math.ceil((model.num_levels - level) * steps_per_level))
    levels = torch.linspace(model.num_levels, level, num_steps + 1, dtype=torch.float64).tolist()
    levels[-1] = level
    log_snrs = [model.schedule.log_snr_at(value) for value in levels]

    def at(log_snr: Tensor) -> LogDensity:
        return lambda x: model.log_density_at(x, log_snr)

    like = torch.empty(0, dtype=model.dtype, device=model.device)
    densities, draw = tuple(at(value) for value in log_snrs), _normal_draws(model.event_shape, like)
    return AnnealingPath(model.top, densities, draw, tuple(levels), is_sequence=True)


def check_integrable(model: EnergySequence) -> None:
    """Refuse a model whose exp(F) is not known to have a finite integral, since it has no log Z.

    Raises:
        NumericalError: an improper model, with what to do about it.
    """
    if not model.is_integrable:
        raise NumericalError(
            "improper: exp(F) is not known to have a finite integral, so it has no log Z. Give the sequence a Gaussian "
            "base and a network of bounded growth (one that declares has_bounded_growth), or declare is_integrable=True "
            "where you can prove it"
        )


def geometric_path(base: Base, log_density: LogDensity, *, num_bridges: int = 100) -> AnnealingPath:
    r"""Geometric bridges :math:`(1 - a) \log b(x) + a \log f(x)`, with a rising evenly from 0 to 1.

    Args:
        base: normalised distribution b with exact draws of the target's event shape.
        log_density: unnormalised log density of the target, log f.
        num_bridges: number of densities after the base, the target included.

    >>> import pyro.distributions as dist
    >>> path = geometric_path(dist.Normal(0.0, 1.0), lambda x: -2 * x**2, num_bridges=4)
    >>> path.levels, float(path.log_densities[-1](torch.ones(1)))
    ((0.25, 0.5, 0.75, 1.0), -2.0)
    """

    annealings = [(index + 1) / num_bridges for index in range(num_bridges)]
    return AnnealingPath(
        base, tuple(bridge(base, log_density, value) for value in annealings), base_draws(base), tuple(annealings)
    )


def base_draws(base: Base) -> BaseDraws:
    """Exact draws of a base: its own ``draw``, or its ``sample`` with torch's global generator seeded from the given one."""
    if isinstance(base, ExactBase):
        return base.draw

    def draw(num_rows: int, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return base.sample((num_rows,))
        with globally_seeded(generator):
            return base.sample((num_rows,))

    return draw


def bridge(base: Base, log_density: LogDensity, annealing: float) -> LogDensity:
    """Geometric mean of base and target: (1 - annealing) log base + annealing log target."""
    if annealing == 1:
        return log_density
    return lambda x: (1 - annealing) * base.log_prob(x) + annealing * log_density(x)


def _normal_draws(event_shape: Sequence[int], like: Tensor) -> BaseDraws:
    def draw(num_rows: int, generator: torch.Generator | None) -> Tensor:
        return normal_draws((num_rows, *event_shape), like, generator)

    return draw


def evaluated(log_density: LogDensity, x: Tensor) -> Tensor:
    """Values of ``log_density`` at rows ``x``, float64 on the CPU, without gradients."""
    with torch.no_grad():
        return log_density(x).double().cpu()
