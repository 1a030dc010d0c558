"""A target's own log density, and the way in which it can be evaluated: type of numbers, device, gradient."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from drl_density.autograd import outside_inference_mode
from drl_density.distributions.energy import EnergyDistribution
from drl_density.distributions.unnormalized import one_number_each
from drl_density.mcmc import LogDensity
from drl_density.partition_function.targets.contract import Target

TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Types of numbers in which a log density is tried, in order."""
NUM_PROBES = 16
"""Points at which a log density is evaluated to learn how to call it."""
LARGEST_MISMATCH = 1e-3
"""Relative change of values, and absolute one in nats, that another order of the same rows may cause by rounding."""
REFUSED = ("Expected parameter", "Expected value argument")
"""How torch's messages begin where a distribution refuses its parameters or a value."""
FAR_OUT = (
    "Raised by the target's log density. The search for its mass goes far out, where exp(x / 2) is 0 or infinite: "
    "pass validate_args=False to the distributions inside the log density. NaN and minus infinity count as density 0."
)
"""What to do about it."""


@runtime_checkable
class _HasParameters(Protocol):
    def energy_parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class Source:
    """A log density of points ``(n, *event)`` with the way to evaluate it.

    Attributes:
        function: log density as the target gives it.
        dtype: type of numbers of the points that it takes.
        device: device of these points.
        precision: type of numbers of its values.
        has_gradient: whether autograd differentiates it.
    """

    function: LogDensity
    dtype: torch.dtype
    device: torch.device
    precision: torch.dtype
    has_gradient: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """Values ``(n,)`` at points ``(n, *event)``, both float64 on the CPU."""
        if self.has_gradient:
            return self._values(x).to("cpu", torch.float64)
        with torch.no_grad():
            return self._values(x.detach()).to("cpu", torch.float64)

    def _values(self, x: Tensor) -> Tensor:
        try:
            values = self.function(x.to(self.device, self.dtype))
        except ValueError as error:
            if str(error).startswith(REFUSED):
                error.add_note(FAR_OUT)
            raise
        return one_number_each(values, x)


@outside_inference_mode
def examine_source(target: Target, function: LogDensity, x: Tensor) -> Source:
    """Find out how to evaluate a log density, by evaluating it at a few points.

    float64 is tried first; a function that cannot take it, such as a network with float32 parameters, is evaluated in
    float32. Whether there is a gradient is left open, see :func:`with_gradient_known`.

    Args:
        target: distribution that may hold the type and the device of its tensors.
        function: its log density, maps points ``(n, *event)`` to ``(n,)``.
        x: points ``(n, *event)`` inside the support, float64.

    Raises:
        ValueError: values of another shape, values that change from call to call, or that depend on the other points.
    """
    x, first = x[:NUM_PROBES], None
    for device, dtype in itertools.product(_devices(target), TYPES):
        try:
            with torch.no_grad():
                found = one_number_each(function(x.to(device, dtype)), x)
        except Exception as error:  # what a function raises that cannot take a type is not known beforehand
            first = first or error
            continue
        source = Source(function, dtype, device, found.dtype)
        _check_rows(source, x)
        return source
    assert first is not None  # every type was tried
    first.add_note(f"raised by the target's log density at points {tuple(x.shape)} of every floating-point type")
    raise first


def with_gradient_known(source: Source, x: Tensor) -> Source:
    """The same source, with whether autograd differentiates it found at points ``(n, *event)`` of finite density.

    A gradient of zero at every point counts as none where the values differ: the function was cut off from its argument.
    """
    point = x[:NUM_PROBES].detach().clone().requires_grad_(True)
    try:
        with torch.enable_grad():
            values = source(point)
            has_graph = values.requires_grad
            gradient = torch.autograd.grad(values.sum(), point, allow_unused=True)[0] if has_graph else None
    except RuntimeError:  # torch refuses .numpy() of a tensor that needs a gradient, and operations without a derivative
        gradient = values = None
    has_gradient = False
    if gradient is not None and values is not None:
        is_constant = bool((values == values[0]).all())
        has_gradient = is_constant or bool((gradient.isfinite() & (gradient != 0)).any())
    return dataclasses.replace(source, has_gradient=has_gradient)


def _check_rows(source: Source, x: Tensor) -> None:
    """Check that values do not change from call to call, nor with the order of the points.

    Raises:
        ValueError: values that do.
    """
    with torch.no_grad():
        first, second, turned = source(x), source(x), source(x.flip(0)).flip(0)
    if not _agree(first, second):
        raise ValueError(
            "the log density gave different values at the same points in two calls: it must not be random; put networks in "
            "evaluation mode (dropout), and draw random numbers once, outside of it"
        )
    if not _agree(first, turned):
        raise ValueError(
            "the log density of a point changes with the other points beside it: it must treat the points along the first "
            "dimension one by one; put networks in evaluation mode (batch normalisation), and sum within a point only"
        )


def _agree(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=LARGEST_MISMATCH, atol=LARGEST_MISMATCH, equal_nan=True)


def _devices(target: Target) -> list[torch.device]:
    """Device of the target's parameters, or of its tensors; the CPU and a GPU where neither is known."""
    if isinstance(target, _HasParameters):
        for parameter in target.energy_parameters():
            return [parameter.device]
    if isinstance(target, EnergyDistribution):
        return [target.like.device]
    gpu = torch.accelerator.current_accelerator()
    return [torch.device("cpu")] if gpu is None else [torch.device("cpu"), gpu]
