"""Progressive sampling: from N(0, I) down the noise levels through the recovery conditionals, by adjusted chains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.devices import normal_draws
from drl_density.distributions import SampleResult
from drl_density.mcmc import MALA, Kernel, LogDensity, RobbinsMonro, Tuner, take_steps
from drl_density.mcmc.kernel import require_adjusted
from drl_density.model import EnergySequence
from drl_density.records.fields import NonNegativeInt, PositiveInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.walk import StepRecord, falling_levels, starting_noise
from drl_density.shapes import check_num_samples


@dataclass(frozen=True)
class ProgressiveSettings:
    """Number of recovery conditionals that progressive sampling descends, and the kernel steps on each.

    Attributes:
        steps_per_level: conditionals per unit of level; 1 is the paper's choice.
        num_steps: K, the kernel steps on each conditional.
        num_final_steps: kernel steps at the end, on the marginal density of level 0.
        kernel: an adjusted kernel, such as ``MALA()`` or ``HMC()``.
        starts_at_normal: whether each chain starts at a draw of the conditional's normal approximation instead of its
            scaled condition. With one conditional per level and ``HMC(num_leapfrog=2)`` this is the paper's T = 1000
            sampler.
        max_rows: chains run at once, which limits memory.

    Raises:
        ValueError: an unadjusted kernel, or a number outside its range.
    """

    steps_per_level: PositiveInt = 2
    num_steps: NonNegativeInt = 10
    num_final_steps: NonNegativeInt = 40
    kernel: Kernel = field(default_factory=MALA)
    starts_at_normal: bool = False
    max_rows: PositiveInt = 16384

    def __post_init__(self) -> None:
        check_fields(self)
        require_adjusted(self.kernel, "progressive sampling")


@dataclass(frozen=True)
class ProgressivePlan:
    """Step sizes of a progressive sampler, tuned on pilot chains.

    Attributes:
        levels: levels of the conditionals, falling from T to 0.
        step_sizes: step size of each conditional, in units of its scale.
        final_step_size: step size of the chain on level 0.
    """

    levels: tuple[float, ...]
    step_sizes: tuple[float, ...]
    final_step_size: float


@outside_inference_mode
def plan_progressive(
    model: EnergySequence,
    settings: ProgressiveSettings | None = None,
    *,
    generator: torch.Generator | None = None,
    num_pilot: int = 256,
) -> ProgressivePlan:
    """Tunes the step sizes on pilot chains, which are discarded.

    Args:
        num_pilot: number of pilot chains.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> plan = plan_progressive(model, ProgressiveSettings(steps_per_level=1, num_steps=2), num_pilot=16)
    >>> len(plan.step_sizes), plan.levels[-1]
    (8, 0.0)
    """
    settings = given_or_default(settings, ProgressiveSettings)
    levels = falling_levels(model.num_levels, max(1, math.ceil(model.num_levels * settings.steps_per_level)), None)
    x = starting_noise(model, num_pilot, generator)
    step_size, steps = 0.8, []
    for noisier, cleaner in zip(levels, levels[1:], strict=False):
        chains = _conditional(model, x, noisier, cleaner, settings, generator)
        x, step_size, _ = chains.run(settings.kernel, step_size, generator, is_tuned=True)
        steps.append(step_size)
    # The last conditional's step size, in units of level 0's own scale, is where the final chain starts to adapt.
    chains = _marginal(model, x, settings)
    _, final, _ = chains.run(settings.kernel, step_size * float(model.schedule.sigma_at(0)), generator, is_tuned=True)
    return ProgressivePlan(levels, tuple(steps), final)


@outside_inference_mode
def sample_progressive(
    model: EnergySequence,
    num_samples: int,
    *,
    settings: ProgressiveSettings | None = None,
    plan: ProgressivePlan | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws of level 0 by chains down the recovery conditionals.

    Args:
        plan: step sizes from :func:`plan_progressive`; tuned on discarded pilot chains by default.
        on_step: called with a :class:`StepRecord` after each level, for each block of ``settings.max_rows`` chains.

    Returns:
        draws ``(num_samples, *event)`` with ``acceptance_rate`` and ``step_size`` per conditional, ``(step, chain)``.

    Raises:
        ValueError: a ``num_samples`` that is not a positive integer.

    Source: Gao et al. 2021, algorithm 2, with Metropolis-adjusted steps and a final chain on the marginal density.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> settings = ProgressiveSettings(steps_per_level=1, num_steps=2, num_final_steps=2)
    >>> found = sample_progressive(model, 4, settings=settings)
    >>> found.draws.shape, 0 < found.acceptance_rate <= 1
    (torch.Size([4, 2]), True)
    """
    check_num_samples(num_samples)
    settings = given_or_default(settings, ProgressiveSettings)
    plan = plan_progressive(model, settings, generator=generator) if plan is None else plan
    draws, stats = [], []
    for begin in range(0, num_samples, settings.max_rows):
        x = starting_noise(model, min(settings.max_rows, num_samples - begin), generator)
        rates, sizes = [], []
        for noisier, cleaner, step_size in zip(plan.levels, plan.levels[1:], plan.step_sizes, strict=False):
            chains = _conditional(model, x, noisier, cleaner, settings, generator)
            x, _, rate = chains.run(settings.kernel, step_size, generator)
            rates.append(rate)
            sizes.append(torch.full_like(rate, step_size))
            if on_step is not None:
                on_step(StepRecord(cleaner, x, float(rate.mean())))
        x, _, rate = _marginal(model, x, settings).run(settings.kernel, plan.final_step_size, generator)
        rates.append(rate)
        sizes.append(torch.full_like(rate, plan.final_step_size))
        draws.append(x)
        stats.append((torch.stack(rates), torch.stack(sizes)))
    joined = {
        "acceptance_rate": torch.cat([rate for rate, _ in stats], 1),
        "step_size": torch.cat([size for _, size in stats], 1),
    }
    return SampleResult(torch.cat(draws), joined)


class _ChainEnd(NamedTuple):
    """Last positions of the chains, the tuned step size in units of the density's scale, and acceptance per chain."""

    x: Tensor
    step_size: float
    acceptance_rate: Tensor


@dataclass(frozen=True)
class _Chains:
    """Chains on one density: where they start, how long they are, and the unit of their step size."""

    log_density: LogDensity
    start: Tensor
    unit: float
    num_steps: int

    def run(
        self, kernel: Kernel, step_size: float, generator: torch.Generator | None, *, is_tuned: bool = False
    ) -> _ChainEnd:
        if self.num_steps == 0:
            return _ChainEnd(self.start, step_size, self.start.new_ones(len(self.start)))
        # The gain falls slowly, since a conditional has a few steps only and the marginal chain at the end some forty.
        rule = RobbinsMonro(kernel.target_acceptance, gain=1.0, decay=0.2) if is_tuned else None
        tuner = Tuner(rule, step_size * self.unit)
        state, rate, _ = take_steps(
            kernel,
            kernel.init(self.start, self.log_density),
            self.log_density,
            num_steps=self.num_steps,
            step_size=tuner,
            generator=generator,
        )
        return _ChainEnd(state.position, float(tuner.current) / self.unit, rate)


def _conditional(
    model: EnergySequence,
    x_noisier: Tensor,
    noisier: float,
    cleaner: float,
    settings: ProgressiveSettings,
    generator: torch.Generator | None,
) -> _Chains:
    """Chains on the recovery conditionals of level ``cleaner`` given states of level ``noisier``."""
    recovery = model.recovery(cleaner, noisier=noisier)
    start = recovery.step_alpha * x_noisier
    if settings.starts_at_normal:
        noise = normal_draws(start.shape, start, generator)
        start = recovery.normal_approximation(x_noisier).mean + recovery.step_sigma / recovery.step_alpha * noise
    # Positions come from the kernel, so checking them at every step would only cost time.
    conditional = recovery.condition(x_noisier, validate_args=False)
    return _Chains(conditional.unnormalized_log_prob, start, recovery.scale, settings.num_steps)


def _marginal(model: EnergySequence, x: Tensor, settings: ProgressiveSettings) -> _Chains:
    """Chains on the marginal density of level 0."""
    log_snr = model.schedule.log_snr_at(0)
    return _Chains(lambda state: model.log_density_at(state, log_snr), x, 1.0, settings.num_final_steps)
