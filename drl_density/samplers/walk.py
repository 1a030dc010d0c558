"""Parts that the samplers share: walks down the noise levels, starting noise, and the record passed to callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.records.brief import brief
from drl_density.schedule import NoiseSchedule
from drl_density.shapes import check_num_samples

Denoiser = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True, eq=False)
class StepRecord:
    """What the callback ``on_step`` of a sampler receives after each level.

    Attributes:
        level: noise level just reached.
        x: states at that level, ``(num_samples, *event)``.
        acceptance_rate: mean acceptance over chains and steps; NaN for samplers that never reject.
    """

    level: float
    x: Tensor
    acceptance_rate: float

    __repr__ = brief


class DenoisingPrior(Protocol):
    """What few-step samplers need of a model: an :class:`~drl_density.EnergySequence`, or any denoiser with a schedule."""

    @property
    def schedule(self) -> NoiseSchedule:
        """Noise levels on which the denoiser works."""
        ...

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one data point."""
        ...

    @property
    def num_levels(self) -> int:
        """Number of noise levels below the base."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of states."""
        ...

    @property
    def device(self) -> torch.device:
        """Device on which states live."""
        ...

    def denoise(self, x: Tensor, level: float, *, has_graph: bool = False) -> Tensor:
        """Estimate of the clean point from a state of ``level``; ``has_graph`` keeps it differentiable."""
        ...


def starting_noise(
    model: DenoisingPrior, num_samples: int, generator: torch.Generator | None, *, noise: Tensor | None = None
) -> Tensor:
    """States at level T, ``(num_samples, *event)``: draws of N(0, I), or the given noise once its shape is checked.

    Raises:
        ValueError: a ``num_samples`` that is not a positive integer, or noise of another shape.
    """
    check_num_samples(num_samples)
    shape = (num_samples, *model.event_shape)
    if noise is None:
        return normal_draws(shape, model, generator)
    if noise.shape != shape:
        raise ValueError(f"expected noise at level {model.num_levels} of shape {shape}, got {tuple(noise.shape)}")
    return noise


def falling_levels(num_levels: int, num_steps: int, levels: tuple[float, ...] | None) -> tuple[float, ...]:
    """Levels from T to 0: those given, or ``num_steps`` equal steps.

    Raises:
        ValueError: no steps, or levels that do not fall from T to 0.

    >>> falling_levels(8, 4, None)
    (8.0, 6.0, 4.0, 2.0, 0.0)
    """
    if levels is None:
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}")
        return tuple(torch.linspace(num_levels, 0, num_steps + 1, dtype=torch.float64).tolist())
    levels = tuple(float(level) for level in levels)
    is_falling = all(b < a for a, b in zip(levels, levels[1:], strict=False))
    if len(levels) < 2 or not is_falling or levels[0] != num_levels or levels[-1] != 0:
        raise ValueError(f"levels must fall from {num_levels} to 0, got {levels}")
    return levels
