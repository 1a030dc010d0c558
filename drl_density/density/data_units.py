"""A sequence of models seen from data space: its log density, its samplers' output, its support."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from drl_density.distributions import SampleResult, SamplerPolicy
from drl_density.mcmc import LogDensity
from drl_density.model import EnergySequence
from drl_density.transforms import DataTransform


class DataLogDensity:
    r"""log density in data units: :math:`F_0(T(x)) + \log\lvert\det J_T(x)\rvert`, unnormalised; -inf outside its bounds.

    A picklable callable over rows ``(n, *event)``.
    """

    def __init__(self, model: EnergySequence, transform: DataTransform) -> None:
        self.model, self.transform = model, transform

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], -1).cpu()
        u = self.transform(flat)
        values = self.model.log_density(u, 0) + self.transform.log_abs_det_jacobian(flat, u)
        return torch.where(self.transform.bounds.contains(flat), values, -math.inf).to(x.device)

    def parameters(self) -> Any:
        """Parameters of the energy."""
        return self.model.network.parameters()


class PooledSampler:
    """Serves small requests from stored draws, each draw once, and larger ones from the sampler behind it.

    Pyro draws single values to learn shapes; those must cost nothing.
    """

    def __init__(self, pool: Tensor, sampler: SamplerPolicy, *, largest: int = 16) -> None:
        self.pool, self.sampler, self.largest = pool, sampler, largest
        self.num_used = 0

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """One draw per row of ``initial``."""
        num_draws = len(initial)
        if generator is None and num_draws <= self.largest and self.num_used + num_draws <= len(self.pool):
            taken = self.pool[self.num_used : self.num_used + num_draws]
            self.num_used += num_draws
            return SampleResult(taken.to(initial).reshape(initial.shape))
        return self.sampler(log_density, initial, generator)


class ToData:
    """Model-space rows to data space, in float64, shaped as events."""

    def __init__(self, transform: DataTransform, event_shape: torch.Size) -> None:
        self.transform, self.event_shape = transform, event_shape

    def __call__(self, u: Tensor) -> Tensor:
        with torch.no_grad():
            return self.transform.inv(u.double().cpu()).reshape(-1, *self.event_shape)


class Blank:
    """Placeholder starting points: the progressive sampler makes its own."""

    def __init__(self, event_shape: torch.Size) -> None:
        self.event_shape = event_shape

    def __call__(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        return torch.zeros(num_rows, *self.event_shape)


def bounded_support(lower: Tensor, upper: Tensor) -> constraints.Constraint | None:
    """The constraint of a vector whose entries lie between ``lower`` and ``upper``; None where nothing is bounded."""
    if not bool((lower.isfinite() | upper.isfinite()).any()):
        return None
    return constraints.stack([_interval(float(a), float(b)) for a, b in zip(lower, upper, strict=True)], dim=-1)


def _interval(lower: float, upper: float) -> constraints.Constraint:
    if lower == -float("inf"):
        return constraints.real if upper == float("inf") else constraints.less_than(upper)
    return constraints.greater_than(lower) if upper == float("inf") else constraints.interval(lower, upper)


def freeze(module: nn.Module) -> nn.Module:
    """Switch to evaluation mode and stop gradients of parameters, in place."""
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module
