"""Chains from given starting points: they turn the draws of a few-step sampler or a generator into draws of the model.

Adjusted kernels leave level 0 unchanged, so the distribution of the chains' ends tends to the model's, whatever the starting
points are. R-hat shows how far that has come. Step sizes adapt during a warm-up and are frozen after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.diagnostics import split_r_hat
from drl_density.distributions import SampleResult
from drl_density.mcmc import MALA, ChainStep, DualAveraging, Kernel, Recording, run_chain
from drl_density.mcmc.kernel import require_adjusted
from drl_density.model import EnergySequence
from drl_density.records.fields import Interval, PositiveInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.walk import StepRecord
from drl_density.shapes import check_num_samples

# R-hat compares chains; beyond some dozens more of them cost memory and hardly change it.
MOST_CHAINS = 64


@dataclass(frozen=True)
class RefinementSettings:
    """Length and kernel of the chains that refine given draws.

    Attributes:
        num_steps: kernel steps after the warm-up.
        num_warmup: steps in which the step size adapts.
        kernel: an adjusted kernel, whose scale is taken from the starting points.

    Raises:
        ValueError: an unadjusted kernel, or too few steps.
    """

    # Split R-hat needs two halves of at least two draws.
    num_steps: Annotated[int, Interval(4)] = 200
    num_warmup: PositiveInt = 50
    kernel: Kernel = field(default_factory=MALA)

    def __post_init__(self) -> None:
        check_fields(self)
        require_adjusted(self.kernel, "correcting draws")


@outside_inference_mode
def sample_refined(
    model: EnergySequence,
    num_samples: int,
    *,
    initial: Callable[[int, torch.Generator | None], Tensor],
    settings: RefinementSettings | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Ends of chains on level 0 that start at ``initial(num_samples, generator)``, ``(num_samples, *event)``.

    Args:
        initial: draws starting points in model space, for example from a generator network.
        on_step: called with a :class:`StepRecord` after each step.

    Returns:
        draws with ``acceptance_rate`` ``(step, chain)`` and ``r_hat`` ``(d,)``, the split R-hat of up to 64 chains.

    Raises:
        ValueError: starting points of another shape or of zero density, or a ``num_samples`` that is not a positive integer.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> settings = RefinementSettings(num_steps=10, num_warmup=5)
    >>> found = sample_refined(model, 4, initial=lambda count, _: torch.randn(count, 2).double(), settings=settings)
    >>> found.draws.shape, sorted(found.stats)
    (torch.Size([4, 2]), ['acceptance_rate', 'r_hat'])
    """
    check_num_samples(num_samples)
    settings = given_or_default(settings, RefinementSettings)
    start = initial(num_samples, generator)
    if start.shape != (num_samples, *model.event_shape):
        raise ValueError(f"expected starting points {(num_samples, *model.event_shape)}, got {tuple(start.shape)}")
    spread = start.std(0) if num_samples > 1 else torch.ones_like(start[0])  # one point has no spread
    kernel = settings.kernel.with_scale(torch.where(spread > 0, spread, torch.ones_like(spread)))

    def report(step: ChainStep) -> None:
        if on_step is not None:
            on_step(StepRecord(0.0, step.state.position, float(step.info.acceptance_probability.mean())))

    found = run_chain(
        kernel,
        lambda x: model.log_density(x, 0),
        start,
        num_steps=settings.num_steps,
        num_warmup=settings.num_warmup,
        step_size=0.3,
        adaptation=DualAveraging(kernel.target_acceptance),
        recording=Recording(on_step=report),
        generator=generator,
    )
    few = found.draws[:, :MOST_CHAINS].flatten(2).transpose(0, 1)
    stats = {"acceptance_rate": found.stats["acceptance_rate"], "r_hat": split_r_hat(few)}
    return SampleResult(found.draws[-1], stats)
