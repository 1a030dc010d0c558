"""Recovery likelihood by adjusted chains, joined with noise-level classification."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from drl_density.devices import generator_device
from drl_density.mcmc import MALA, Kernel
from drl_density.model import EnergySequence
from drl_density.records.fields import Interval, NonNegativeFloat, PositiveInt, Share, check_fields
from drl_density.shapes import per_row
from drl_density.training.objectives.classification import classification_loss
from drl_density.training.objectives.objective import (
    Batch,
    LevelStatistics,
    ObjectiveValue,
    level_shift,
    stratified_levels,
    unlabelled,
)
from drl_density.training.objectives.pairs import SHARED_NOISE_REFUSAL, draw_pairs, short_chains


@dataclass(frozen=True)
class RecoveryLikelihood:
    r"""Recovery likelihood with adjusted chains, joined with noise-level classification.

    For a Markov pair (x_t, x_{t+1}) and the end x_t^- of a chain on p(x_t | x_{t+1}), the recovery part is the contrast
    :math:`F_t(x_t^-) - F_t(x_t)`. Its gradient is that of the recovery likelihood when the chain has converged, and that
    of contrastive divergence when the chain started at x_t. The classification part
    (:func:`~drl_density.training.classification_loss`) fixes the constants and the weights of separated modes.

    Attributes:
        num_steps: K, the number of kernel steps per pair.
        kernel: kernel of the chains, MALA by default; ``ULA()`` is the paper's unadjusted choice.
        noisier_share: share of the chains that start at x_{t+1} instead of x_t.
        jump: number of levels between x_t and the state that conditions it.
        recovery_weight: factor of the recovery part in the loss.
        classification_weight: factor of the classification part in the loss.
        classification_share: share of the batch that is classified; a row costs T passes.
        shares_noise: whether x_t and x_{t+1} come from one noise, see :func:`~drl_density.training.draw_pairs`; refused
            unless every chain starts at x_{t+1}.
        clean_share: share of the rows whose x_t is the clean row itself, on level 0, as in
            :class:`~drl_density.training.ReferenceContrast`. With 0 the levels have equal shares, and level 0 has its noise.

    Raises:
        ValueError: shared noise with chains that start at the data or with clean rows, no steps, no jump, or a share outside
            its range.

    Source: Gao et al. 2021, algorithm 1 and equation 8, which have no classification.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> value = RecoveryLikelihood(num_steps=2)(model, torch.randn(16, 2).double(), torch.full((8,), 0.8))
    >>> sorted(value.parts), value.statistics.acceptance_rate.shape
    (['classification', 'recovery'], torch.Size([8]))
    """

    num_steps: PositiveInt = 8
    kernel: Kernel = field(default_factory=MALA)
    noisier_share: Share = 0.0
    jump: PositiveInt = 1
    recovery_weight: NonNegativeFloat = 1.0
    classification_weight: NonNegativeFloat = 1.0
    classification_share: Annotated[float, Interval(0, 1, is_low_open=True)] = 1.0
    shares_noise: bool = False
    clean_share: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.shares_noise and self.noisier_share < 1:
            raise ValueError(SHARED_NOISE_REFUSAL)
        if self.shares_noise and self.clean_share:
            raise ValueError("clean rows of level 0 have no noise to share: use shares_noise=False, or clean_share=0")

    def __call__(
        self, model: EnergySequence, x: Batch, step_sizes: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Evaluate the objective on clean rows.

        Args:
            x: clean rows ``(batch, *event)``, without labels.
            step_sizes: chain step size per level ``(T,)``, in units of the conditional.
        """
        rows = unlabelled(x)
        shift = level_shift(generator=generator).to(rows.device)
        levels, above = self.levels(len(rows), model.num_levels, shift, generator=generator)
        contrast = self.contrast(model, rows, levels, step_sizes, shift=above, generator=generator)
        value = ObjectiveValue(
            self.recovery_weight * contrast.loss, {"recovery": contrast.loss.detach()}, contrast.statistics
        )
        if self.classification_weight:
            term = classification_loss(
                model,
                rows,
                shift=shift,
                share=self.classification_share,
                has_clean_rows=self.clean_share > 0,
                generator=generator,
            )
            value = value.plus("classification", term, self.classification_weight)
        return value

    def contrast(
        self,
        model: EnergySequence,
        x: Tensor,
        levels: Tensor,
        step_sizes: Tensor,
        *,
        shift: Tensor | float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Contrast:
        """Evaluate the recovery part alone.

        Args:
            x: clean rows ``(batch, *event)``.
            levels: integer level of each row ``(batch,)``, below its shift.
            step_sizes: chain step size per level ``(T,)``, in units of the conditional.
            shift: shift of the whole grid of levels, in [0, 1), or one per row ``(batch,)``.
        """
        pairs = self._draw(model, x, levels + torch.as_tensor(shift, dtype=torch.float64, device=x.device), generator)
        start = pairs.clean
        if self.noisier_share:
            draws = torch.rand(len(x), generator=generator, device=generator_device(generator)).to(x.device)
            start = torch.where(per_row(draws < self.noisier_share, x), pairs.noisier, start)
        step_size = step_sizes[levels].to(x) * pairs.scale
        ends = short_chains(
            model, self.kernel, start, pairs.log_density, step_size, self.num_steps, generator=generator
        )
        both = model.log_density_at(torch.cat([pairs.clean, ends.position]), torch.cat([pairs.log_snr, pairs.log_snr]))
        gap = both[: len(x)] - both[len(x) :]
        jump = (ends.position - pairs.clean).square().flatten(1).mean(1) / pairs.scale**2
        statistics = LevelStatistics.of_rows(
            gap.detach(), ends.acceptance_rate, jump, levels=levels, num_levels=model.num_levels
        )
        return Contrast(-gap.mean(), statistics)

    def levels(
        self, num_rows: int, num_levels: int, shift: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw the integer level of each row, and how far its continuous level lies above, both ``(num_rows,)``.

        Args:
            num_levels: number of levels T.
            shift: shift of the whole grid of levels ``()``, in [0, 1).
        """
        num_clean = num_rows if self.clean_share and num_levels == 1 else math.ceil(self.clean_share * num_rows)
        if num_clean == 0:
            levels = stratified_levels(num_rows, num_levels, generator=generator).to(shift.device)
            return levels, shift.expand(num_rows)
        noisy = stratified_levels(num_rows - num_clean, max(1, num_levels - 1), generator=generator).to(shift.device)
        # Noisy rows lie on (0, T): level 0 has its own rows.
        position = torch.cat([noisy.new_zeros(num_clean), noisy + 1 - shift])
        levels = position.long()
        return levels, position - levels

    def _draw(
        self, model: EnergySequence, x: Tensor, position: Tensor, generator: torch.Generator | None
    ) -> _MarkovPairs:
        """Pairs at continuous levels ``position`` ``(batch,)`` and ``jump`` levels above, at most T."""
        above = (position + self.jump).clamp(max=float(model.num_levels))
        clean, noisier = draw_pairs(
            model,
            x,
            position,
            above,
            shares_noise=self.shares_noise,
            has_clean_rows=self.clean_share > 0,
            generator=generator,
        )
        step_alpha, step_sigma = (value.to(clean) for value in model.schedule.step_between(position, above))
        precision = (step_alpha / step_sigma) ** 2 + model.schedule.sigma_at(position).to(clean) ** -2
        return _MarkovPairs(
            model=model,
            clean=clean,
            noisier=noisier,
            log_snr=model.schedule.log_snr_at(position).to(clean),
            step_alpha=step_alpha,
            step_precision=1 / step_sigma**2,
            scale=precision**-0.5,
        )


@dataclass(frozen=True)
class Contrast:
    """The recovery part of a loss.

    Attributes:
        loss: mean of F(chain end) - F(data), a scalar with gradient.
        statistics: what the chains did, per level.
    """

    loss: Tensor
    statistics: LevelStatistics


@dataclass(frozen=True)
class _MarkovPairs:
    """States at two levels, one pair per row, and the recovery conditional of each pair.

    Attributes:
        model: the sequence whose recovery conditionals are meant.
        clean: x_t, ``(batch, *event)``.
        noisier: the state that conditions x_t, ``(batch, *event)``.
        log_snr: log signal-to-noise ratio of the level of x_t ``(batch,)``.
        step_alpha: a of the step between the two levels ``(batch,)``.
        step_precision: 1 / s^2 of that step ``(batch,)``.
        scale: standard deviation of x_t given the noisier state if all data were one point ``(batch,)``; the unit of steps.
    """

    model: EnergySequence
    clean: Tensor
    noisier: Tensor
    log_snr: Tensor
    step_alpha: Tensor
    step_precision: Tensor
    scale: Tensor

    def log_density(self, x: Tensor) -> Tensor:
        """Unnormalised log density of the recovery conditionals at ``x`` ``(batch, *event)``."""
        distance = (self.noisier - per_row(self.step_alpha, x) * x).square().flatten(1).sum(1)
        return self.model.log_density_at(x, self.log_snr) - 0.5 * self.step_precision * distance
