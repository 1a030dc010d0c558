"""A sequence of models seen from data space: its log density, its samplers' output, its support."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from drl_density.bases import LayeredBase
from drl_density.datasets import Column
from drl_density.distributions import SampleResult
from drl_density.distributions.sampling import as_shape
from drl_density.errors import DataError
from drl_density.mcmc import LogDensity
from drl_density.model import EnergySequence
from drl_density.samplers import LevelZeroSampler
from drl_density.samplers.importance import move_on_level_zero
from drl_density.transforms import Bounds, DataTransform

CACHED_ROWS = 1024
"""Rows in one pass on a CPU: what is computed on the way stays in its cache, where a row takes a third of the time."""
BUSY_ROWS = 16_384
"""Rows in one pass on a GPU, which bounds its memory."""
MOST_VALUES = 2**20
"""Values in one pass on any device: 1,024 rows of 1,024 values."""

LEAST_SCORED, MOST_SCORED, MOST_SCORED_VALUES = 64, 2048, 400_000
"""Images that a fit scores at least and at most, and their values: far fewer than the 5,120,000 of most trainings."""


def rows_at_once(num_features: int, device: torch.device) -> int:
    """Number of rows in one pass of the transform and the network: a CPU's cache holds them, and a GPU is busy with them.

    Args:
        num_features: number of columns.
        device: where the network is.

    >>> rows_at_once(20, torch.device("cpu")), rows_at_once(20, torch.device("cuda"))
    (1024, 16384)
    """
    most = CACHED_ROWS if device.type == "cpu" else BUSY_ROWS
    return max(1, min(most, MOST_VALUES // max(1, num_features)))


def most_scored_images(num_features: int) -> int:
    """Number of images that a fit scores at a time under a density that takes a pass of its network for every pixel.

    Args:
        num_features: number of values of an image.

    >>> most_scored_images(64), most_scored_images(784), most_scored_images(3072)
    (2048, 510, 130)
    """
    return max(LEAST_SCORED, min(MOST_SCORED, MOST_SCORED_VALUES // num_features))


def reported_noise(model: EnergySequence) -> float:
    """Noise of the reported density in model space: that of level 0, or none for a sharp density without a network.

    Args:
        model: sequence whose level 0 is reported.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> reported_noise(model) == float(model.schedule.sigma_at(0))
    True
    """
    is_sharp = model.is_base_alone and isinstance(model.base, LayeredBase)
    return 0.0 if is_sharp else float(model.schedule.sigma_at(0))


def in_passes(function: Callable[[Tensor], Tensor], rows: Tensor, device: torch.device | None = None) -> Tensor:
    """``function`` of rows ``(*, d)``, one result per row, in passes of bounded memory and without gradients.

    Args:
        function: function of flat rows ``(n, d)``, such as a transform.
        rows: rows on the CPU.
        device: where the function works; the CPU when None.

    >>> in_passes(lambda rows: rows.sum(-1), torch.ones(2, 1500, 3)).shape
    torch.Size([2, 1500])
    """
    size = rows_at_once(rows.shape[-1], device or torch.device("cpu"))
    with torch.no_grad():
        found = torch.cat([function(some) for some in rows.reshape(-1, rows.shape[-1]).split(size)])
    return found.reshape(*rows.shape[:-1], *found.shape[1:])


def draws_shape(num_samples: int | Sequence[int]) -> tuple[int, ...]:
    """The batch shape that a number of draws or a shape means.

    Raises:
        DataError: a number of draws that is negative or no integer.

    >>> draws_shape(3), draws_shape((2, 3))
    ((3,), (2, 3))
    """
    try:
        return tuple(as_shape(num_samples))
    except ValueError as error:
        raise DataError(f"num_samples: {error}") from error


class DataLogDensity:
    r"""log density in data units: :math:`F_0(T(x)) + \log\lvert\det J_T(x)\rvert`, unnormalised; -inf outside its bounds.

    A picklable callable over rows ``(n, *event)``.
    """

    def __init__(self, model: EnergySequence, transform: DataTransform) -> None:
        self.model, self.transform = model, transform

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.flatten(1).cpu().double()
        dtype = x.dtype if x.is_floating_point() else flat.dtype
        u, log_jacobian = self.transform.with_log_jacobian(flat)
        values = self.model.log_density(u, 0) + log_jacobian
        return torch.where(self.transform.bounds.contains(flat), values, -math.inf).to(x.device, dtype)

    def in_passes(self, rows: Tensor) -> Tensor:
        """The same of many rows ``(n, d)`` on the CPU, in passes of bounded memory and without gradients."""
        return in_passes(self, rows, self.model.device)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the energy."""
        return self.model.network.parameters()


class PooledSampler:
    """Serves small requests from a pool of stored draws, and larger ones from the sampler behind it.

    Pyro draws single values to learn shapes, so those have to be cheap. Each draw starts at a row of the pool chosen at
    random, with replacement, and moves by short chains on level 0. Such chains leave the density unchanged, so the draws
    follow the pool's law, and repeated rows separate. Nothing is remembered between calls: draws depend on the
    generator alone, or on torch's global generator when there is none.
    """

    def __init__(self, pool: Tensor, sampler: LevelZeroSampler, bounds: Bounds, *, largest: int = 16) -> None:
        self.pool, self.sampler, self.bounds, self.largest = pool, sampler, bounds, largest

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """One draw per row of ``initial``."""
        if not len(initial):
            return SampleResult(initial)
        if len(initial) > self.largest:
            found = self.sampler(log_density, initial.double(), generator)
        else:
            chosen = torch.randint(len(self.pool), (len(initial),), generator=generator)
            start, plan = self.pool[chosen.to(self.pool.device)], self.sampler.plan
            u, rates = move_on_level_zero(self.sampler.model, start, plan=plan, generator=generator)
            found = SampleResult(self.sampler.to_data(u), {"acceptance_rate": rates.cpu()}, plan.method)
        return dataclasses.replace(found, draws=self._in_the_type_of(initial, found.draws))

    def _in_the_type_of(self, initial: Tensor, draws: Tensor) -> Tensor:
        """Draws in another type and on another device, where rounding must not place them on a bound."""
        rows = draws.to(initial.dtype).flatten(1)
        return self.bounds.expand(rows.shape[1]).nearest_inside(rows).reshape(draws.shape).to(initial.device)


def to_data_units(transform: DataTransform, u: Tensor) -> Tensor:
    """Model-space states ``(*, d)`` in data units, float64 on the CPU, without gradients."""
    return in_passes(transform.inv, u.double().cpu())


def on_support(columns: Sequence[Column], rows: Tensor, bounds: Bounds | None = None) -> Tensor:
    """Rows ``(*, d)`` in data units with every value moved to the nearest permitted one of its column; NaN stays.

    Args:
        columns: columns of a fit, in order.
        rows: rows such as draws.
        bounds: bounds of the fit's transform, which no rounded value of a draw crosses; None for rows that are no draws.

    >>> on_support([Column("y", "binary", 1.0, values=(0.0, 1.0)), Column("x")], torch.tensor([[0.7, 0.7], [-3.0, 0.1]]))
    tensor([[1.0000, 0.7000],
            [0.0000, 0.1000]])
    """
    found = rows.clone()
    ends = [(-math.inf, math.inf)] * len(columns)
    if bounds is not None:
        lower, upper = bounds.expand(len(columns))
        ends = list(zip(lower.tolist(), upper.tolist(), strict=True))
    alike: dict[tuple[Column, tuple[float, float]], list[int]] = {}  # pixels share one support, and are moved together
    for index, column in enumerate(columns):
        if column.width or column.lower > -math.inf or column.upper < math.inf:
            alike.setdefault((dataclasses.replace(column, name=""), ends[index]), []).append(index)
    for (column, inside), places in alike.items():
        found[..., places] = column.on_support(rows[..., places], inside=inside)
    return found


class ToData:
    """Maps model-space states ``(n, d)`` to data points ``(n, *event)``; a picklable callable for samplers."""

    def __init__(self, transform: DataTransform, event_shape: torch.Size) -> None:
        self.transform, self.event_shape = transform, event_shape

    def __call__(self, u: Tensor) -> Tensor:
        return to_data_units(self.transform, u).reshape(-1, *self.event_shape)


class StartAt:
    """One point as the start of all chains, and the type of the draws of samplers that make their own starts."""

    def __init__(self, point: Tensor) -> None:
        self.point = point

    def __call__(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        return self.point.expand(num_rows, *self.point.shape)


Frozen = TypeVar("Frozen", bound=nn.Module)


def freeze(module: Frozen) -> Frozen:
    """Switch a module to evaluation mode and stop gradients of its parameters, in place."""
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module
