"""Score matching with path increments, which make neighbouring noise levels agree, and with particles of level 0."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.mcmc import ULA, Kernel
from drl_density.model import EnergySequence
from drl_density.records.brief import brief
from drl_density.records.fields import NonNegativeFloat, PositiveInt, Share, check_fields
from drl_density.training.objectives.base_errors import base_errors
from drl_density.training.objectives.objective import Batch, LevelStatistics, ObjectiveValue, unlabelled
from drl_density.training.objectives.paths.particles import LevelParticles
from drl_density.training.objectives.paths.steps import Step, base_and_score, log_kernels, noised_pair, reverse_mean

VARIANCES, SCATTER, BASE_ERRORS = "path_variances", "path_scatter", "path_base_errors"
"""Names of the measured tables in ``TrainingState.drawn``, which are saved with the state."""

NUM_GROUPS = 2
"""Noise levels of a batch for scores, and as many steps for increments: levels of many rows each, since a base of many
components is set up once for each level."""

RAMP = 0.1
"""Share of the training over which the weight of the increments rises from 0 to its full value."""

LEAST_SHARE = 0.3
"""Share of the increments that are drawn evenly over the steps; the others in proportion to the scatter."""


@dataclass(frozen=True, eq=False)
class PathMatching:
    r"""Denoising score matching of F, joined with the centred squares of path increments.

    .. math:: w_t = F_t(x_t) - F_u(x_u) + \log q(x_u \mid x_t) - \log r(x_t \mid x_u), \qquad
        \mathcal L = \text{score matching} + \kappa \sum_{\text{steps}} E\,(w_t - \bar w_t)^2

    Here q is the noising step and r the Gaussian reverse step whose mean follows from the score of F_u and whose variances
    are measured on rows. The sum of the increments along a path is its log weight in an estimate of log Z. Score matching
    alone leaves them to scatter by tens of nats on images, because it does not see the constants between levels. Both terms
    are in nats, or nats squared. Steps are drawn in proportion to the scatter of their increments, where that is known.

    An untrained network is zero, and the increments of the base hardly scatter. A network that has learned little gains
    less by its scores than the squares cost, so from the first step on they would keep it near zero. Therefore all rows
    serve the scores at first. The weight of the increments then rises from 0 to kappa within a tenth of the training.
    The contrast with :class:`LevelParticles` joins in with them: it lowers the tilt where level 0 has mass and rows are not,
    which neither term above sees.

    The base is evaluated without a graph for its own derivatives, which training does not need.

    Attributes:
        increment_weight: factor kappa of the squared increments, for each nat squared.
        steps_per_level: steps of the path for each noise level.
        level_balance: exponent p of the additional weight :math:`(L_t / \bar L)^{-p}` of the scores of a level, where L_t is
            the loss that the base alone expects there.
        increments_from: share of the training after which the increments and the particles join in.
        particles: particles of level 0 and the weight of their contrast with rows.
        progress: gives the share of the training that is done; without it all terms have their full weights.
        tables: gives the measured variances ``(steps, d)``, scatters ``(steps,)`` and losses of the base ``(T,)`` by name,
            which :class:`PathMeter` measures, and keeps the particles. Without them, the objective raises an error at
            evaluation.

    Raises:
        ValueError: at evaluation, a sequence without a base, fewer than 4 rows, or no measured tables.

    Source: Vincent 2011 for scores; He et al. 2025 (arXiv 2506.05668) for increments in training.

    >>> PathMatching().steps_per_level
    4
    """

    increment_weight: NonNegativeFloat = 0.3
    steps_per_level: PositiveInt = 4
    level_balance: Share = 0.5
    increments_from: Share = 0.5
    particles: LevelParticles = field(default_factory=LevelParticles)
    progress: Callable[[], float] | None = None
    tables: Callable[[], MutableMapping[str, Tensor]] | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def kernel(self) -> Kernel:
        """An unadjusted kernel, so that the trainer adapts no step size; particles adapt their own."""
        return ULA()

    def num_steps(self, model: EnergySequence) -> int:
        """Number of steps from level 0 to the topmost learned level T - 1; at least 1."""
        return max(1, self.steps_per_level * (model.num_levels - 1))

    def step(self, model: EnergySequence, index: int) -> Step:
        """Step number ``index`` of the path, counted from level 0."""
        top, count = max(1, model.num_levels - 1), self.num_steps(model)
        cleaner, noisier = top * index / count, top * (index + 1) / count
        schedule = model.schedule
        alphas = float(schedule.alpha_at(cleaner)), float(schedule.alpha_at(noisier))
        sigmas = float(schedule.sigma_at(cleaner)), float(schedule.sigma_at(noisier))
        scale, noise = schedule.step_between(cleaner, noisier)
        return Step(cleaner, noisier, alphas, sigmas, float(scale), float(noise))

    def __call__(
        self, model: EnergySequence, x: Batch, step_sizes: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Evaluate the objective on clean rows, half of which serve the scores and half the increments, once these count.

        Args:
            x: clean rows ``(batch, *event)``, at least 4.
            step_sizes: not used; there are no chains.
        """
        rows = unlabelled(x)
        if model.base is None:
            raise ValueError("paths are measured against a base with noised forms, and this sequence has none")
        if len(rows) < 2 * NUM_GROUPS:
            raise ValueError(f"expected at least {2 * NUM_GROUPS} rows in a batch, got {len(rows)}")
        share = self.share()
        weight = share * self.increment_weight
        parts = rows.tensor_split(2 * NUM_GROUPS)
        scored, walked = (parts[:NUM_GROUPS], parts[NUM_GROUPS:]) if weight else (parts, ())
        tables = {} if self.tables is None else self.tables()
        of_base = tables.get(BASE_ERRORS)
        errors = torch.stack([self._score_error(model, part, of_base, generator).mean() for part in scored])
        loss = errors.mean()
        value = ObjectiveValue(loss, {"score_matching": loss.detach()}, LevelStatistics.unknown(model.num_levels, loss))
        if share * self.particles.weight and self.tables is not None:
            contrast = self.particles(model, rows, tables, generator=generator)
            value = value.plus("particles", contrast, share * self.particles.weight)
        if not walked:
            return value
        if VARIANCES not in tables:
            raise ValueError("the variances of the reverse steps are not measured yet: measure them with a PathMeter")
        chances = step_chances(tables[SCATTER])
        terms = []
        for part in walked:
            index = int(torch.multinomial(chances, 1, generator=generator))
            variances = tables[VARIANCES][index].to(part)
            increments = self.increments(model, part, self.step(model, index), variances, generator=generator)
            terms.append((increments - increments.mean().detach()).square().mean() / float(chances[index]))
        return value.plus("increments", torch.stack(terms).mean(), weight)

    def share(self) -> float:
        """Present share of the weights of the increments and of the particles, from 0 to 1.

        >>> PathMatching(increments_from=0.5, progress=lambda: 0.4).share()
        0.0
        """
        if self.progress is None:
            return 1.0
        return max(0.0, min(1.0, (self.progress() - self.increments_from) / RAMP))

    def increments(
        self,
        model: EnergySequence,
        x: Tensor,
        step: Step,
        variances: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Increment of the log weight of every row over one step, ``(batch,)``, differentiable in the network's weights.

        Args:
            model: the sequence whose increments are computed.
            x: clean rows ``(batch, *event)``.
            step: step of the path, from :meth:`step`.
            variances: variances of the reverse step, ``(d,)``.
        """
        cleaner, noisier = noised_pair(x, step, generator)
        log_snr = model.schedule.log_snr_at(step.noisier).to(x.device)
        point = noisier.detach().requires_grad_(True)
        tilt = model.tilt_at(point, log_snr)
        (own,) = torch.autograd.grad(tilt.sum(), point, retain_graph=True)
        base, theirs = base_and_score(model, noisier, log_snr)
        mean = reverse_mean(noisier, own + theirs, step)
        at = model.schedule.log_snr_at(step.cleaner).to(x.device)
        with torch.no_grad():
            start = model.base_at(cleaner, at)
            kernels = log_kernels(cleaner, noisier, mean, step, variances)
        return model.tilt_at(cleaner, at) - tilt + (start - base + kernels)

    def _score_error(
        self, model: EnergySequence, x: Tensor, of_base: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """Weighted squared error of the score of rows at one noise level, nats, ``(batch,)``, summed over the levels."""
        draw = torch.rand(3, generator=generator, dtype=torch.float64)
        count, top = self.num_steps(model), max(1, model.num_levels - 1)
        index = min(count - 1, int(draw[0] * count))
        jitter = float(draw[1]) if draw[2] < 0.5 else 0.0
        position = top * (index + jitter) / count
        schedule = model.schedule
        log_snr, alpha, sigma = (
            value(position) for value in (schedule.log_snr_at, schedule.alpha_at, schedule.sigma_at)
        )
        noise = normal_draws(x.shape, x, generator)
        noisy = float(alpha) * x + float(sigma) * noise
        log_snr = log_snr.to(x.device)
        point = noisy.detach().requires_grad_(True)
        tilt = model.tilt_at(point, log_snr)
        (own,) = torch.autograd.grad(tilt.sum(), point, create_graph=True)
        _, theirs = base_and_score(model, noisy, log_snr)
        error = (float(sigma) * (own + theirs) + noise).square().flatten(1).sum(1)
        span = float(schedule.log_snr_at(position) - schedule.log_snr_at(min(position + 1, float(model.num_levels))))
        return 0.5 * top * span * self._balance(model, position, of_base) * error

    def _balance(self, model: EnergySequence, position: float, of_base: Tensor | None) -> float:
        """Additional weight of a level, 1 where all levels expect the same loss; linear between the levels."""
        if not self.level_balance:
            return 1.0
        errors = base_errors(model)[:-1].cpu() if of_base is None else of_base
        lower = int(position)
        upper = min(lower + 1, len(errors) - 1)
        own = torch.lerp(errors[lower], errors[upper], position - lower)
        return float(own / errors.mean()) ** -self.level_balance


def step_chances(scatter: Tensor) -> Tensor:
    """Chance of every step to be drawn, ``(steps,)``, float64: some evenly, the others in proportion to the scatter."""
    scatter = scatter.double().cpu()
    total = float(scatter.sum())
    even = torch.full_like(scatter, 1 / len(scatter))
    return even if not total > 0 else LEAST_SHARE * even + (1 - LEAST_SHARE) * scatter / total
