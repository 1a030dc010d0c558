"""Progressive sampling: from N(0, I) down the noise levels through the recovery conditionals, by adjusted chains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.distributions import SampleResult
from drl_density.mcmc import MALA, Kernel, LogDensity, RobbinsMonro, Tuner, take_steps
from drl_density.model import EnergySequence


@dataclass(frozen=True)
class StepRecord:
    """What ``on_step`` receives after each level: the level reached, the states and the mean acceptance.

    Attributes:
        level: reached.
        x: states there, ``(n, *event)``.
        acceptance_rate: mean over chains and steps.
    """

    level: float
    x: Tensor
    acceptance_rate: float


@dataclass(frozen=True)
class ProgressiveSettings:
    """How far apart the conditioning levels stand and how long the chains are.

    Attributes:
        steps_per_level: conditionals per unit of level; 1 is the paper's choice.
        num_steps: K, kernel steps on each conditional.
        num_final_steps: kernel steps on the marginal density of level 0 at the end.
        kernel: an adjusted kernel.
        starts_at_normal: begin each chain at a draw of the conditional's normal approximation in place of its scaled
            condition; with one conditional per level and ``HMC(num_leapfrog=2)`` this is the paper's T = 1000 sampler.
        max_rows: chains run at once.
    """

    steps_per_level: int = 2
    num_steps: int = 10
    num_final_steps: int = 40
    kernel: Kernel = field(default_factory=MALA)
    starts_at_normal: bool = False
    max_rows: int = 16384


@dataclass(frozen=True)
class ProgressivePlan:
    """Step sizes for each conditional, in units of its scale, and for the final marginal chain, from a pilot.

    Attributes:
        levels: where the conditionals stand, falling.
        step_sizes: of each conditional, in units of its scale.
        final_step_size: of the chain on level 0.
    """

    levels: tuple[float, ...]
    step_sizes: tuple[float, ...]
    final_step_size: float


def plan_progressive(
    model: EnergySequence,
    settings: ProgressiveSettings | None = None,
    *,
    generator: torch.Generator | None = None,
    num_pilot: int = 256,
) -> ProgressivePlan:
    """Tune the step sizes on pilot chains, which are thrown away.

    Args:
        model: the sequence.
        settings: of the run to come.
        generator: source of randomness.
        num_pilot: chains.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> plan = plan_progressive(model, ProgressiveSettings(steps_per_level=1, num_steps=2), num_pilot=16)
    >>> len(plan.step_sizes), plan.levels[-1]
    (8, 0.0)
    """
    settings = ProgressiveSettings() if settings is None else settings
    num_conditionals = max(1, math.ceil(model.num_levels * settings.steps_per_level))
    levels = torch.linspace(model.num_levels, 0, num_conditionals + 1, dtype=torch.float64).tolist()
    x = _noise(model, num_pilot, generator)
    step_size, steps = 0.8, []
    for noisier, cleaner in zip(levels, levels[1:], strict=False):
        x, step_size, _ = _conditional_chain(model, x, (noisier, cleaner), step_size, settings, generator, tune=True)
        steps.append(step_size)
    _, final, _ = _marginal_chain(model, x, step_size, settings, generator, tune=True)
    return ProgressivePlan(tuple(levels), tuple(steps), final)


def sample_progressive(
    model: EnergySequence,
    num_samples: int,
    *,
    settings: ProgressiveSettings | None = None,
    plan: ProgressivePlan | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draw from level 0 by walking down the recovery conditionals.

    Args:
        model: the sequence.
        num_samples: independent chains, one draw each.
        settings: lengths of the chains.
        plan: frozen step sizes; tuned on discarded pilot chains when None.
        generator: source of randomness.
        on_step: told after each level.

    Returns:
        draws ``(num_samples, *event)`` with ``acceptance_rate`` and ``step_size`` per conditional, ``(step, chain)``.

    Source: Gao et al. 2021, algorithm 2, with Metropolis-adjusted steps and a final chain on the marginal density.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> settings = ProgressiveSettings(steps_per_level=1, num_steps=2, num_final_steps=2)
    >>> found = sample_progressive(model, 4, settings=settings)
    >>> found.draws.shape, 0 < found.acceptance_rate <= 1
    (torch.Size([4, 2]), True)
    """
    settings = ProgressiveSettings() if settings is None else settings
    plan = plan_progressive(model, settings, generator=generator) if plan is None else plan
    draws, stats = [], []
    for start in range(0, num_samples, settings.max_rows):
        x = _noise(model, min(settings.max_rows, num_samples - start), generator)
        rates, sizes = [], []
        pairs = zip(plan.levels, plan.levels[1:], plan.step_sizes, strict=False)
        for noisier, cleaner, step_size in pairs:
            x, _, rate = _conditional_chain(model, x, (noisier, cleaner), step_size, settings, generator)
            rates.append(rate)
            sizes.append(torch.full_like(rate, step_size))
            if on_step is not None:
                on_step(StepRecord(cleaner, x, float(rate.mean())))
        x, _, rate = _marginal_chain(model, x, plan.final_step_size, settings, generator)
        rates.append(rate)
        sizes.append(torch.full_like(rate, plan.final_step_size))
        draws.append(x)
        stats.append((torch.stack(rates), torch.stack(sizes)))
    joined = {
        "acceptance_rate": torch.cat([rate for rate, _ in stats], 1),
        "step_size": torch.cat([size for _, size in stats], 1),
    }
    return SampleResult(torch.cat(draws), joined)


@dataclass(frozen=True)
class ProgressiveSampler:
    """The sampler policy of a fitted density: progressive draws of the model, mapped to data space.

    Attributes:
        model: the sequence.
        plan: frozen step sizes.
        to_data: maps model-space rows to data space.
        settings: lengths of the chains.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example(schedule=NoiseSchedule.log_spaced(3)).model
    >>> settings = ProgressiveSettings(steps_per_level=1, num_steps=2, num_final_steps=2)
    >>> plan = plan_progressive(model, settings, num_pilot=16)
    >>> sampler = ProgressiveSampler(model, plan, to_data=lambda u: 2 * u, settings=settings)
    >>> sampler(lambda x: -(x**2).sum(-1), torch.zeros(4, 2), None).draws.shape
    torch.Size([4, 2])
    """

    model: EnergySequence
    plan: ProgressivePlan
    to_data: Callable[[Tensor], Tensor]
    settings: ProgressiveSettings = field(default_factory=ProgressiveSettings)

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """One draw per row of ``initial``; see :class:`drl_density.distributions.SamplerPolicy`."""
        result = sample_progressive(
            self.model, len(initial), settings=self.settings, plan=self.plan, generator=generator
        )
        stats = {name: values.cpu() for name, values in result.stats.items()}
        return SampleResult(self.to_data(result.draws).to(initial), stats)


def _noise(model: EnergySequence, num_rows: int, generator: torch.Generator | None) -> Tensor:
    return normal_draws((num_rows, *model.event_shape), model, generator)


def _conditional_chain(
    model: EnergySequence,
    x_noisier: Tensor,
    levels: tuple[float, float],
    step_size: float,
    settings: ProgressiveSettings,
    generator: torch.Generator | None,
    *,
    tune: bool = False,
) -> tuple[Tensor, float, Tensor]:
    recovery = model.recovery(levels[1], noisier=levels[0])
    conditional = recovery.condition(x_noisier)
    unit = recovery.scale
    start = recovery.step_alpha * x_noisier
    if settings.starts_at_normal:
        noise = normal_draws(start.shape, start, generator)
        start = recovery.normal_approximation(x_noisier).mean + recovery.step_sigma / recovery.step_alpha * noise
    x, tuned, rate = _chain(
        settings.kernel, conditional._log_density, start, step_size * unit, settings.num_steps, generator, tune
    )
    return x, tuned / unit, rate


def _marginal_chain(
    model: EnergySequence,
    x: Tensor,
    step_size: float,
    settings: ProgressiveSettings,
    generator: torch.Generator | None,
    *,
    tune: bool = False,
) -> tuple[Tensor, float, Tensor]:
    unit = float(model.schedule.sigma_at(0))
    scaled = step_size * unit if tune else step_size
    log_snr = model.schedule.log_snr_at(0)

    def log_density(state: Tensor) -> Tensor:
        return model.log_density_at(state, log_snr)

    return _chain(settings.kernel, log_density, x, scaled, settings.num_final_steps, generator, tune)


def _chain(
    kernel: Kernel,
    log_density: LogDensity,
    x: Tensor,
    step_size: float,
    num_steps: int,
    generator: torch.Generator | None,
    is_tuned: bool,  # noqa: FBT001
) -> tuple[Tensor, float, Tensor]:
    if num_steps == 0:
        return x, step_size, torch.ones(len(x), dtype=x.dtype, device=x.device)
    # The gain falls slowly, since a conditional has a few steps only and the marginal chain at the end some forty.
    rule = RobbinsMonro(kernel.target_acceptance, gain=1.0, decay=0.2) if is_tuned else None
    tuner = Tuner(rule, step_size)
    state, rate, _ = take_steps(
        kernel, kernel.init(x, log_density), log_density, num_steps=num_steps, step_size=tuner, generator=generator
    )
    return state.position, float(tuner.current), rate
