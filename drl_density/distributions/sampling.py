"""How distributions without exact draws sample: policies, and adjusted Markov chains as the default one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from drl_density.mcmc import MALA, DualAveraging, Kernel, LogDensity, Recording, run_chain
from drl_density.records.brief import brief
from drl_density.records.fields import NonNegativeInt, PositiveFloat, PositiveInt, check_fields
from drl_density.shapes import is_integer

SampleShape = int | Sequence[int]
"""A number of draws, or a shape of them."""
StartingPoints = Callable[[int, torch.Generator | None], Tensor]
"""``initial(num_rows, generator)``: starting points of chains ``(num_rows, *event)``."""


def as_shape(sample_shape: SampleShape) -> torch.Size:
    """A shape of draws from a shape or a number.

    Raises:
        ValueError: a size that is negative or no integer.

    >>> as_shape(5), as_shape((2, 3))
    (torch.Size([5]), torch.Size([2, 3]))
    """
    sizes = tuple(sample_shape) if isinstance(sample_shape, Sequence) else (sample_shape,)
    if not all(is_integer(size) and size >= 0 for size in sizes):
        raise ValueError(
            f"expected a number of draws, or a shape, of integers that are not negative, got {sample_shape!r}"
        )
    return torch.Size(int(size) for size in sizes)


@dataclass(frozen=True, eq=False)
class SampleResult:
    """Draws, and the statistics of the chains that made them.

    Attributes:
        draws: final positions of independent chains, ``(num_samples, *event)``.
        stats: acceptance_rate, step_size, lp, energy_error and diverging of every kept step and chain, each
            ``(step, chain)``; empty when no chain was run.
        sampler: name of the sampler, where one of several was chosen; None elsewhere.
    """

    draws: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)
    sampler: str | None = None

    __repr__ = brief

    @property
    def acceptance_rate(self) -> float:
        """Mean acceptance over kept steps and chains; NaN when no chain was run."""
        rate = self.stats.get("acceptance_rate")
        return float(rate.mean()) if rate is not None else math.nan


class SamplerPolicy(Protocol):
    """How a distribution draws, given the log density of all rows at once and their starting points."""

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """Draw one row for each row of ``initial``, ``(num_samples, *event)``."""
        ...


@dataclass(frozen=True)
class ChainSampler:
    """One adjusted chain per draw: its step size adapts during a warm-up and is then frozen, and its last state is the draw.

    Attributes:
        kernel: adjusted kernel, MALA by default.
        num_warmup: number of adapting steps, which are thrown away.
        num_steps: number of steps with the frozen step size.
        step_size: step size at the start of adaptation, in units of the kernel's scale.
        is_adapted: whether the step size adapts during warm-up.

    Raises:
        ValueError: an unadjusted kernel, whose draws are biased.

    >>> from drl_density import EnergyDistribution
    >>> target = EnergyDistribution.from_log_density(lambda x: -0.5 * (x**2).sum(-1), event_shape=(2,))
    >>> target.with_sampler(ChainSampler(num_warmup=50, num_steps=20)).sample((4,)).shape
    torch.Size([4, 2])
    """

    kernel: Kernel = field(default_factory=MALA)
    num_warmup: NonNegativeInt = 300
    num_steps: PositiveInt = 100
    step_size: PositiveFloat = 0.3
    is_adapted: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.kernel.is_adjusted:
            raise ValueError(
                f"expected an adjusted kernel such as MALA() or HMC(4), got {self.kernel}: its draws are biased"
            )

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """Run one chain from each starting point, see :class:`SamplerPolicy`."""
        adaptation = DualAveraging(self.kernel.target_acceptance) if self.is_adapted else None
        result = run_chain(
            self.kernel,
            log_density,
            initial,
            num_steps=self.num_steps,
            step_size=self.step_size,
            num_warmup=self.num_warmup,
            adaptation=adaptation,
            recording=Recording(keep_draws=False),
            generator=generator,
        )
        return SampleResult(result.final_state.position, result.stats)
