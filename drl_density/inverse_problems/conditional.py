r"""Any coordinates given any others: sequential Monte Carlo down the noise levels with noised observations.

The observed coordinates are noised upward once, :math:`y_0 = u_o, y_1, \dots, y_T`, by the Markov chain of the schedule.
For such a fixed path the densities :math:`f_t(x) = \exp F_t(x, y_t)` over the missing coordinates lead from N(0, I) to
:math:`\exp F_0(x, u_o)`. So weighted particles with adjusted moves sample the conditional consistently, separated modes
included, and the mean weight is an unbiased estimate of the slice's normaliser :math:`\int \exp F_0(x, u_o)\,dx`. Every
replicate has its own noise path, and the spread of replicates shows the error.

Source: the replacement method of Song et al. 2021 (inpainting), made exact by weights as in Trippe et al. 2023.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.devices import normal_draws
from drl_density.diagnostics import bulk_ess, split_r_hat
from drl_density.errors import NumericalError
from drl_density.mcmc import MALA, ChainState, Kernel, RobbinsMonro, Tuner, take_steps
from drl_density.mcmc.kernel import require_adjusted
from drl_density.model import EnergySequence
from drl_density.records.brief import brief
from drl_density.records.fields import Interval, PositiveInt, Share, check_fields
from drl_density.records.given import given_or_default
from drl_density.shapes import check_num_samples
from drl_density.weights import log_mean_exp, resample, resample_poor, weight_ess


@dataclass(frozen=True)
class ConditionalSettings:
    """Numbers of particles and steps by which conditionals are drawn.

    Attributes:
        num_particles: particles per replicate of a row, at least 2.
        num_replicates: noise paths per row, at least 2.
        steps_per_level: densities per unit of level.
        num_transitions: kernel steps on each density.
        num_final_steps: kernel steps on the conditional itself, which R-hat is computed from; at least 8.
        resample_below: share of the particles; a replicate is resampled if its weight ESS falls below it.
        kernel: an adjusted kernel, such as ``MALA()`` or ``HMC()``.
        max_rows: particles evaluated at once, which limits memory.
        num_proposals: weighted draws per row in the first round, at least 16, where the base has conditionals in closed
            form and the network is bounded. Those rows need none of the other sizes.

    Raises:
        ValueError: fewer than 2 particles or replicates, no steps, fewer than 8 final steps, fewer than 16 proposals, or an
            unadjusted kernel.
    """

    num_particles: Annotated[int, Interval(2)] = 64
    num_replicates: Annotated[int, Interval(2)] = 2
    steps_per_level: PositiveInt = 4
    num_transitions: PositiveInt = 2
    num_final_steps: Annotated[int, Interval(8)] = 200
    resample_below: Share = 0.5
    kernel: Kernel = field(default_factory=MALA)
    max_rows: PositiveInt = 16384
    num_proposals: Annotated[int, Interval(16)] = 256

    def __post_init__(self) -> None:
        check_fields(self)
        require_adjusted(self.kernel, "a conditional")


@dataclass(frozen=True, eq=False)
class ConditionalPlan:
    """Levels, scales and step sizes of a conditional run, from a pilot.

    Attributes:
        levels: levels of the densities, falling from T to 0.
        scales: diagonal scale of the kernel at each level, ``(d,)``.
        step_sizes: step size of the kernel at each level.
    """

    levels: tuple[float, ...]
    scales: tuple[Tensor, ...]
    step_sizes: tuple[float, ...]

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class ConditionalResult:
    """Draws of the missing coordinates, with the weights and diagnostics of the run.

    Attributes:
        draws: whole vectors with the observed coordinates as given, ``(row, draw, d)``.
        log_weights: log weights of the particles at level 0, ``(row, replicate, particle)``, float64. Their log-mean-exp
            over particles estimates the log normaliser of the slice.
        least_ess: smallest weight ESS, as a share of the particles, over all levels, ``(row,)``.
        acceptance_rate: mean acceptance of the final chains, ``(row,)``.
        r_hat: largest split R-hat of a missing coordinate over the row's final chains, ``(row,)``; NaN with one draw.
        ess: smallest bulk effective sample size of a missing coordinate over the row's final chains, ``(row,)``; NaN with
            one draw.
    """

    draws: Tensor
    log_weights: Tensor
    least_ess: Tensor
    acceptance_rate: Tensor
    r_hat: Tensor
    ess: Tensor

    __repr__ = brief

    @property
    def log_z(self) -> Tensor:
        """Log normaliser of each slice, ``(row,)``."""
        return log_mean_exp(self.log_weights.flatten(1))

    @property
    def standard_error(self) -> Tensor:
        """Standard error of ``log_z`` from the spread of replicates (delta method), ``(row,)``."""
        by_replicate = log_mean_exp(self.log_weights, 2)
        relative = (by_replicate - self.log_z[:, None]).exp()
        return relative.std(1) / math.sqrt(by_replicate.shape[1])

    def take(self, rows: Tensor) -> ConditionalResult:
        """The results of some rows.

        Args:
            rows: indices, or a boolean mask.
        """
        return ConditionalResult(*(getattr(self, part.name)[rows] for part in dataclasses.fields(self)))


@outside_inference_mode
def plan_conditional(
    model: EnergySequence,
    draws: Tensor,
    observed: Tensor,
    is_missing: Tensor,
    *,
    settings: ConditionalSettings | None = None,
    generator: torch.Generator | None = None,
) -> ConditionalPlan:
    """Plans a conditional run: scales from the Fisher information along noised draws, step sizes from a discarded pilot.

    Args:
        draws: draws of level 0 of the model, ``(n, d)``.
        observed: rows to condition on, ``(rows, d)``; values in missing places are ignored.
        is_missing: mask of the missing coordinates, ``(rows, d)``.

    Raises:
        ValueError: shapes that do not fit, or a row with nothing missing or nothing observed.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> settings = ConditionalSettings(num_particles=8, steps_per_level=1, num_final_steps=8)
    >>> row, is_missing = torch.zeros(1, 2).double(), torch.tensor([[True, False]])
    >>> plan = plan_conditional(system.model, system.sample(64, 0), row, is_missing, settings=settings)
    >>> plan.levels[-1], len(plan.step_sizes) == len(plan.levels)
    (0.0, True)
    """
    settings = given_or_default(settings, ConditionalSettings)
    _check_pattern(model, observed, is_missing)
    num_densities = model.num_levels * settings.steps_per_level + 1
    levels = torch.linspace(model.num_levels, 0, num_densities, dtype=torch.float64).tolist()
    # The mean of 512 squared scores has a relative error of some 6 %, which is plenty for a scale.
    scales, x = [], draws[:512].to(model.device, model.dtype)
    for index in reversed(range(num_densities)):
        scales.append(model.score(x, levels[index]).square().mean(0).rsqrt())
        if index:
            x = model.schedule.diffuse_step(x, levels[index], levels[index - 1], generator=generator)
    plan = ConditionalPlan(tuple(levels), tuple(reversed(scales)), (1.0,) * num_densities)
    # Step sizes are shared by all rows: 64 of them with 16 particles each measure acceptance well enough.
    chosen = torch.randint(len(observed), (min(64, len(observed)),), generator=generator)
    small = dataclasses.replace(settings, num_particles=16)
    rows = observed[chosen][:, None].expand(-1, small.num_replicates, -1)
    return _Descent(model, plan, small, generator).run(rows, is_missing[chosen], tune=True).plan


@outside_inference_mode
def sample_conditional(
    model: EnergySequence,
    observed: Tensor,
    is_missing: Tensor,
    num_samples: int,
    *,
    plan: ConditionalPlan,
    settings: ConditionalSettings | None = None,
    log_offsets: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> ConditionalResult:
    """Draws of the missing coordinates of every row given its observed ones.

    Args:
        observed: rows in model space, ``(rows, d)``; values in missing places are ignored. With ``(rows, num_replicates,
            d)`` each replicate has its own observed values, for coordinates that are known only up to an interval.
        is_missing: mask of the missing coordinates, ``(rows, d)``; any pattern with at least one missing and one observed
            coordinate per row.
        num_samples: number of draws for each row.
        plan: plan from :func:`plan_conditional` with the same settings.
        log_offsets: added to each replicate's log weights, ``(rows, num_replicates)``.

    Raises:
        ValueError: shapes that do not fit, a row with nothing missing or nothing observed, or a ``num_samples`` that is
            not a positive integer.
        NumericalError: all particles of a row lost their weight.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example(schedule=NoiseSchedule.log_spaced(3))
    >>> settings = ConditionalSettings(num_particles=8, steps_per_level=1, num_final_steps=8)
    >>> row, is_missing = torch.zeros(1, 2).double(), torch.tensor([[True, False]])
    >>> plan = plan_conditional(system.model, system.sample(64, 0), row, is_missing, settings=settings)
    >>> sample_conditional(system.model, row, is_missing, 5, plan=plan, settings=settings).draws.shape
    torch.Size([1, 5, 2])
    """
    check_num_samples(num_samples)
    settings = given_or_default(settings, ConditionalSettings)
    if observed.ndim == 2:
        observed = observed[:, None].expand(-1, settings.num_replicates, -1)
    if observed.ndim != 3 or observed.shape[1] != settings.num_replicates:
        raise ValueError(
            f"expected rows (rows, d), or (rows, {settings.num_replicates}, d) for as many replicates, got "
            f"{tuple(observed.shape)}"
        )
    _check_pattern(model, observed[:, 0], is_missing)
    if log_offsets is None:
        log_offsets = torch.zeros(observed.shape[:2], dtype=torch.float64)
    share = max(1, settings.max_rows // (settings.num_replicates * settings.num_particles))
    descent = _Descent(model, plan, settings, generator)
    parts = []
    for rows, mask, offsets in zip(*(t.split(share) for t in (observed, is_missing, log_offsets)), strict=True):
        found = descent.run(rows, mask)
        found = dataclasses.replace(found, log_weights=found.log_weights + offsets[..., None])
        draws, *figures = descent.finish(descent.choose(found, num_samples), mask)
        parts.append(ConditionalResult(draws, found.log_weights, found.least_ess, *figures))
    return ConditionalResult(
        *(torch.cat([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(ConditionalResult))
    )


def _check_pattern(model: EnergySequence, observed: Tensor, is_missing: Tensor) -> None:
    if observed.shape != is_missing.shape or observed.shape[1:] != model.event_shape:
        raise ValueError(
            f"expected rows and mask of shape (rows, {model.event_shape.numel()}), got {tuple(observed.shape)} and "
            f"{tuple(is_missing.shape)}"
        )
    if bool((is_missing.all(1) | ~is_missing.any(1)).any()):
        raise ValueError("every row needs at least one missing and one observed coordinate")


@dataclass(frozen=True)
class _Found:
    """Weighted particles at level 0, the smallest ESS share of each row, and the plan with the step sizes in use."""

    particles: Tensor
    log_weights: Tensor
    least_ess: Tensor
    plan: ConditionalPlan


@dataclass(frozen=True)
class _Descent:
    """Weighted particles from level T to level 0 for a batch of rows.

    A state holds all d coordinates. The density takes the observed ones from the noise path, so the kernel's moves of
    those in the state have no effect.
    """

    model: EnergySequence
    plan: ConditionalPlan
    settings: ConditionalSettings
    generator: torch.Generator | None

    def run(self, observed: Tensor, is_missing: Tensor, *, tune: bool = False) -> _Found:
        """Particles from N(0, I) to level 0; with ``tune`` step sizes adapt to the acceptance rate."""
        model, settings, generator = self.model, self.settings, self.generator
        groups = (len(observed) * settings.num_replicates, settings.num_particles)
        path = self._noise_path(observed.to(model.device, model.dtype).flatten(0, 1))
        mask = is_missing.to(model.device).repeat_interleave(settings.num_replicates * settings.num_particles, 0)
        x = normal_draws(mask.shape, model, generator)
        previous = torch.where(mask, -0.5 * x.square() - 0.5 * math.log(2 * math.pi), 0.0).sum(1).double().cpu()
        weights = torch.zeros(groups, dtype=torch.float64)
        least, steps, step_size = torch.ones(groups[0], dtype=torch.float64), [], 0.8
        # The gains of an annealing pilot, for the same reason: few steps on each density, each close to the one before.
        rule = RobbinsMonro(settings.kernel.target_acceptance, gain=1.0, decay=0.5) if tune else None
        for index, level in enumerate(self.plan.levels):
            given = path[index].repeat_interleave(settings.num_particles, 0)
            log_density = SliceEnergy(model, level, given, mask)
            kernel = settings.kernel.with_scale(self.plan.scales[index])
            state = kernel.init(x, log_density)
            weights = weights + (state.log_density.double().cpu() - previous).reshape(groups)
            ess = weight_ess(weights) / settings.num_particles
            if not bool(torch.isfinite(ess).all()):
                row = int((~torch.isfinite(ess)).nonzero()[0]) // settings.num_replicates
                raise NumericalError(f"every particle of row {row} lost its weight at level {level:.3g}")
            least = least.minimum(ess)
            chosen, weights = resample_poor(weights, ess < settings.resample_below, generator=generator)
            state = ChainState(*(part[chosen] for part in state))
            tuner = Tuner(rule, step_size if tune else self.plan.step_sizes[index])
            state, _, _ = take_steps(
                kernel,
                state,
                log_density,
                num_steps=settings.num_transitions * (4 if tune else 1),
                step_size=tuner,
                generator=generator,
            )
            step_size = float(tuner.current)
            steps.append(step_size)
            x, previous = state.position, state.log_density.double().cpu()
        shape = (len(observed), settings.num_replicates, settings.num_particles)
        full = torch.where(mask, x, path[-1].repeat_interleave(settings.num_particles, 0))
        return _Found(
            full.reshape(*shape, -1),
            weights.reshape(shape),
            least.reshape(shape[:2]).amin(1),
            dataclasses.replace(self.plan, step_sizes=tuple(steps)),
        )

    def choose(self, found: _Found, num_samples: int) -> Tensor:
        """Particles of all replicates of each row by their weights, ``(row, num_samples, d)``."""
        index = resample(found.log_weights.flatten(1), num_samples, generator=self.generator)
        # Resampling returns sorted indices, which a random order shuffles.
        order = torch.rand(index.shape, generator=self.generator).argsort(1)
        particles = found.particles.flatten(1, 2)
        index = index.gather(1, order).to(particles.device)
        return particles.gather(1, index[..., None].expand(*index.shape, particles.shape[-1]))

    def finish(self, draws: Tensor, is_missing: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Chains on the conditional itself: last states, acceptance, largest split R-hat and smallest ESS of every row."""
        settings, (num_rows, num_draws, _) = self.settings, draws.shape
        mask, given = is_missing.to(draws.device).repeat_interleave(num_draws, 0), draws.flatten(0, 1)
        log_density = SliceEnergy(self.model, 0.0, given, mask)
        kernel, kept = settings.kernel.with_scale(self.plan.scales[-1]), []
        state, rate, _ = take_steps(
            kernel,
            kernel.init(draws.flatten(0, 1), log_density),
            log_density,
            num_steps=settings.num_final_steps,
            step_size=self.plan.step_sizes[-1],
            generator=self.generator,
            on_step=lambda state, _: kept.append(state.position),
        )
        full = torch.where(mask, state.position, given).reshape(draws.shape)
        r_hat = ess = torch.full((num_rows,), math.nan, dtype=torch.float64)
        if num_draws > 1:
            chains = torch.stack(kept, 1).reshape(num_rows, num_draws, len(kept), -1)
            cells = chains.permute(1, 2, 0, 3)[:, :, is_missing]
            worst = torch.full((2, *is_missing.shape), -math.inf, dtype=torch.float64)
            worst[:, is_missing] = torch.stack([split_r_hat(cells), -bulk_ess(cells)])
            r_hat, ess = worst[0].amax(1), -worst[1].amax(1)
        return full, rate.reshape(num_rows, num_draws).mean(1).cpu(), r_hat, ess

    def _noise_path(self, observed: Tensor) -> list[Tensor]:
        """The observed coordinates at each level of the plan, one noise path per row."""
        path, levels = [observed], self.plan.levels
        for index in reversed(range(1, len(levels))):
            path.append(
                self.model.schedule.diffuse_step(path[-1], levels[index], levels[index - 1], generator=self.generator)
            )
        return path[::-1]


class SliceEnergy:
    """Log density F of one level over whole vectors whose observed coordinates are taken from ``given``."""

    def __init__(self, model: EnergySequence, level: float, given: Tensor, is_missing: Tensor) -> None:
        self.model, self.level, self.given, self.is_missing = model, level, given, is_missing

    def __call__(self, x: Tensor) -> Tensor:
        return self.model.log_density(torch.where(self.is_missing, x, self.given), self.level)
