r"""Draws of level 0, the density that a fit reports: one plan decides how they are made, and every caller follows it.

For :math:`F_0 = \log b + g` with a bounded network g, draws of the base b are weighted by :math:`\exp g`; the density of b
itself is never evaluated. A pilot measures the importance efficiency, the weight ESS as a share of the proposals. Every draw
is then chosen among four times as many proposals as one effective draw takes, so that repeated choices are rare. Where the
efficiency is low, chains on level 0 follow. They alternate independent proposals from b, which cross to any mode, with
adjusted Langevin steps, which separate repeated draws. Both leave the density unchanged. All other sequences are drawn from
by the progressive sampler. Without a network the density is the base, and its own draws are independent draws of level 0.

Source: Rubin 1987 (sampling importance resampling); Gilks and Berzuini 2001 (moves after resampling); Samsonov et al. 2022
(arXiv 2111.02702) for chains with global and local moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.distributions import SampleResult
from drl_density.mcmc import MALA, Independence, LogDensity, RobbinsMonro, Tuner, take_steps
from drl_density.model import EnergySequence, LevelLogDensity
from drl_density.partition_function.importance import (
    LEAST_EVEN_EFFICIENCY,
    acceptance_of_weights,
    base_draws,
    has_weighted_base,
    importance_efficiency,
    proposals_per_draw,
    resampled_draws,
    tilts,
)
from drl_density.records.brief import brief
from drl_density.records.literals import check_literals
from drl_density.samplers.progressive import ProgressivePlan, plan_progressive, sample_progressive
from drl_density.shapes import check_num_samples
from drl_density.weights import weight_ess

NUM_PILOT = 4096
"""Draws of the base that measure the efficiency, and the least number of proposals."""
LEAST_EFFICIENCY = 0.005
"""Efficiency below which a pilot has some 20 effective draws or fewer, and nothing is resampled."""
NUM_ROUNDS, ROUND_SHARE = 4, 0.5
"""Rounds of a chain, and its independent proposals in each as a share of those that one effective draw takes."""
NUM_LOCAL_STEPS = 5
"""Langevin steps after the independent proposals of a round."""
NUM_SHORT_STEPS = 10
"""Langevin steps of short chains, as many as the progressive sampler takes on each conditional. At acceptance 0.5 a chain
stays where it is with probability 0.001."""
NUM_TUNING_CHAINS, NUM_TUNING_STEPS = 256, 40
"""Chains and steps that tune the Langevin step size, as on the last level of the progressive sampler."""
MOST_NUMBERS = 2**22
"""Numbers in the proposals of one block of draws (32 MB)."""

LevelZeroMethod = Literal["base", "importance", "independence", "progressive"]
"""Draws of the base; importance resampling from the base; the same with chains after it; the progressive sampler."""

IN_WORDS: dict[LevelZeroMethod, str] = {
    "base": "independent draws of the base",
    "importance": "importance resampling from the base",
    "independence": "importance resampling from the base, then chains with independent proposals from it",
    "progressive": "progressive sampling down the noise levels",
}
"""The methods in words for a person."""


@dataclass(frozen=True)
class LevelZeroPlan:
    """How level 0 of a sequence is drawn from; :func:`plan_level_zero` decides.

    Attributes:
        method: "base", "importance", "independence" or "progressive".
        efficiency: weight ESS of draws of the base as a share of them, from a pilot; 1 without a network, and None where the
            base cannot serve.
        step_size: step size of Langevin steps on level 0; None for "base" and "importance", which take none.
        progressive: step sizes of the progressive sampler; None where it is not used.

    Raises:
        ValueError: an unknown method.
    """

    method: LevelZeroMethod
    efficiency: float | None = None
    step_size: float | None = None
    progressive: ProgressivePlan | None = None

    def __post_init__(self) -> None:
        check_literals(self)

    def describe(self) -> str:
        """The sampler in words, with the efficiency of the base's draws where it was measured.

        >>> LevelZeroPlan("importance", 0.8).describe()
        'importance resampling from the base (efficiency 0.8)'
        """
        words = IN_WORDS[self.method]
        return words if self.efficiency is None else f"{words} (efficiency {self.efficiency:.2g})"


@outside_inference_mode
def plan_level_zero(
    model: EnergySequence, *, generator: torch.Generator | None = None, num_pilot: int = 256
) -> LevelZeroPlan:
    """Decide how level 0 is drawn from, and tune what that takes.

    Importance resampling takes a bounded network on a base, and an efficiency of at least 0.005; below 0.1 chains follow.
    The progressive sampler is tuned only where it is chosen. Without a network nothing is drawn for the decision.

    Args:
        num_pilot: number of chains that tune the progressive sampler.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> plan = plan_level_zero(model)
    >>> plan.method, round(plan.efficiency, 6)  # the tilt is 0
    ('importance', 1.0)
    """
    if model.is_base_alone:
        return LevelZeroPlan("base", 1.0)
    efficiency = None
    if has_weighted_base(model):
        efficiency = importance_efficiency(tilts(model, base_draws(model, NUM_PILOT, 0.0, generator), 0.0))
    # A network that gives NaN has no efficiency, and compares false.
    if efficiency is None or not efficiency >= LEAST_EFFICIENCY:
        progressive = plan_progressive(model, generator=generator, num_pilot=num_pilot)
        return LevelZeroPlan("progressive", efficiency, progressive.final_step_size, progressive)
    if efficiency >= LEAST_EVEN_EFFICIENCY:
        return LevelZeroPlan("importance", efficiency)
    start, _, _ = _resampled(model, NUM_TUNING_CHAINS, proposals_per_draw(efficiency), generator)
    return LevelZeroPlan("independence", efficiency, _tuned(model, start, generator))


@outside_inference_mode
def sample_level_zero(
    model: EnergySequence,
    num_samples: int,
    *,
    plan: LevelZeroPlan | None = None,
    generator: torch.Generator | None = None,
) -> SampleResult:
    """Draws of level 0 by the sampler that a plan names.

    Args:
        plan: result of :func:`plan_level_zero`; made from a fresh pilot by default. A sequence without a network follows
            no other plan than "base".

    Returns:
        draws ``(num_samples, *event)`` with the method as their ``sampler``. Resampled ones come with the ``efficiency`` of
        their proposals ``(1, chain)`` and the ``acceptance_rate`` of an independence Metropolis-Hastings chain with such
        proposals. Where chains follow, two more lines of it are their mean acceptance of independent proposals and of
        Langevin steps. The progressive sampler gives the statistics of its own chains.

    Raises:
        ValueError: a ``num_samples`` that is not a positive integer.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> found = sample_level_zero(model, 5)
    >>> found.sampler, found.draws.shape, round(float(found.stats["efficiency"].mean()), 6)  # the tilt is 0
    ('importance', torch.Size([5, 2]), 1.0)
    """
    check_num_samples(num_samples)
    if model.is_base_alone:
        x = base_draws(model, num_samples, 0.0, generator).to(model.device, model.dtype)
        even = torch.ones(1, num_samples, dtype=torch.float64)
        return SampleResult(x, {"acceptance_rate": even, "efficiency": even.clone()}, "base")
    plan = plan_level_zero(model, generator=generator) if plan is None else plan
    if plan.method == "progressive" or plan.efficiency is None:
        found = sample_progressive(model, num_samples, plan=plan.progressive, generator=generator)
        return SampleResult(found.draws, found.stats, "progressive")
    per_draw = proposals_per_draw(plan.efficiency)
    share = max(1, MOST_NUMBERS // (per_draw * model.event_shape.numel()))
    draws, rates, shares = [], [], []
    for part in torch.empty(num_samples).split(share):
        x, rate, efficiency = _resampled(model, len(part), per_draw, generator)
        rate = rate[None]
        if plan.method == "independence":
            x, moved = move_on_level_zero(model, x, plan=plan, generator=generator)
            rate = torch.cat([rate.to(moved), moved])
        draws.append(x)
        rates.append(rate)
        shares.append(efficiency)
    stats = {"acceptance_rate": torch.cat(rates, 1), "efficiency": torch.cat(shares)[None]}
    return SampleResult(torch.cat(draws), stats, plan.method)


@outside_inference_mode
def move_on_level_zero(
    model: EnergySequence, x: Tensor, *, plan: LevelZeroPlan, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Short chains on level 0, which leave its density unchanged.

    They alternate independent proposals from the base with Langevin steps; without the one or the other where the plan has
    none. Without a network one proposal from the base is a draw, and nothing else is done.

    Args:
        x: states to start from, ``(chains, *event)``, in the model's dtype and on its device.
        plan: method and step size.

    Returns:
        The last states, and the mean acceptance of each kind of step ``(1 or 2, chains)``.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> x, rates = move_on_level_zero(model, torch.zeros(3, 2), plan=LevelZeroPlan("independence", 0.05, 0.5))
    >>> x.shape, rates.shape
    (torch.Size([3, 2]), torch.Size([2, 3]))
    """
    if model.is_base_alone:
        moved = base_draws(model, len(x), 0.0, generator).to(x)
        return moved, torch.ones(1, len(x), dtype=torch.float64, device=x.device)
    local, log_density = MALA(), LevelLogDensity(model, 0.0)
    if plan.method == "progressive" or plan.efficiency is None:
        assert plan.step_size is not None  # the progressive sampler is tuned on level 0 too
        taken = take_steps(
            local,
            local.init(x, log_density),
            log_density,
            num_steps=NUM_SHORT_STEPS,
            step_size=plan.step_size,
            generator=generator,
        )
        return taken.state.position, taken.acceptance_rate[None]

    def weight(rows: Tensor) -> Tensor:
        return tilts(model, rows, 0.0).to(rows.device)

    far = Independence(
        lambda count, source: base_draws(model, count, 0.0, source), math.ceil(ROUND_SHARE / plan.efficiency)
    )
    rates = []
    for _ in range(NUM_ROUNDS):
        far_taken = take_steps(far, far.init(x, weight), weight, num_steps=1, step_size=1.0, generator=generator)
        x, rate = far_taken.state.position, [far_taken.acceptance_rate]
        if plan.step_size is not None:
            taken = take_steps(
                local,
                local.init(x, log_density),
                log_density,
                num_steps=NUM_LOCAL_STEPS,
                step_size=plan.step_size,
                generator=generator,
            )
            x = taken.state.position
            rate.append(taken.acceptance_rate.to(rate[0]))
        rates.append(torch.stack(rate))
    return x, torch.stack(rates).mean(0)


@dataclass(frozen=True, eq=False)
class LevelZeroSampler:
    """The sampler policy of a fitted density: draws by :func:`sample_level_zero`, mapped to data space.

    Attributes:
        model: the sequence in model space.
        plan: how level 0 is drawn from.
        to_data: maps model-space rows to data space.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> sampler = LevelZeroSampler(model, LevelZeroPlan("importance", 1.0), to_data=lambda u: 2 * u)
    >>> sampler(lambda x: -(x**2).sum(-1), torch.zeros(4, 2), None).draws.shape
    torch.Size([4, 2])
    """

    model: EnergySequence
    plan: LevelZeroPlan
    to_data: Callable[[Tensor], Tensor]

    __repr__ = brief

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """One draw per row of ``initial``; see :class:`drl_density.distributions.SamplerPolicy`."""
        found = sample_level_zero(self.model, len(initial), plan=self.plan, generator=generator)
        stats = {name: values.cpu() for name, values in found.stats.items()}
        return SampleResult(self.to_data(found.draws).to(initial), stats, found.sampler)


def _resampled(
    model: EnergySequence, num_samples: int, per_draw: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws, and for each of them the acceptance and the efficiency of its block's proposals ``(num_samples,)``."""
    count = max(NUM_PILOT, per_draw * num_samples)
    draws, weights = resampled_draws(model, num_samples, num_proposals=count, generator=generator)
    figures = (acceptance_of_weights(weights), weight_ess(weights) / count)
    rate, share = (value.expand(num_samples) for value in figures)
    return draws, rate, share


def _tuned(model: EnergySequence, start: Tensor, generator: torch.Generator | None) -> float:
    """Step size of Langevin steps on level 0, tuned along chains that are thrown away."""
    kernel, log_density = MALA(), LevelLogDensity(model, 0.0)
    tuner = Tuner(RobbinsMonro(kernel.target_acceptance, gain=1.0, decay=0.5), 0.3)
    state = kernel.init(start, log_density)
    take_steps(kernel, state, log_density, num_steps=NUM_TUNING_STEPS, step_size=tuner, generator=generator)
    tuner.freeze()
    return float(tuner.current)
