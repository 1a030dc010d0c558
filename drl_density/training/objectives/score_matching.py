"""Denoising score matching of the same energies: no chains, and every pixel's noise carries information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.mcmc import ULA, Kernel
from drl_density.model import EnergySequence
from drl_density.records.fields import Interval, NonNegativeFloat, Share, check_fields
from drl_density.shapes import per_row
from drl_density.training.objectives.base_errors import base_errors_at
from drl_density.training.objectives.classification import classification_loss
from drl_density.training.objectives.objective import (
    Batch,
    LevelStatistics,
    ObjectiveValue,
    drop_labels,
    level_shift,
    split_labels,
    stratified_levels,
)


@dataclass(frozen=True)
class DenoisingScoreMatching:
    r"""Score matching on noised rows, joined with noise-level classification.

    .. math:: \tfrac12 (\lambda_t - \lambda_{t+1})\, \lVert \sigma_t \nabla F_t(x_t) + \varepsilon \rVert^2, \qquad
        x_t = \alpha_t x + \sigma_t \varepsilon

    in nats. Summed over fine levels, it bounds the negative log-likelihood up to a constant. With one short step per level
    it is recovery likelihood with a normal approximation of the conditional.

    A contrast of two states carries information about the score along one direction, this loss along all d of them.
    Networks over images therefore learn from far fewer rows. The loss is nearly blind to the weights of modes that lie
    far apart; classification and chains see those.

    Attributes:
        classification_weight: factor of the noise-level classification in the loss.
        classification_share: share of the batch that is classified; a row costs T passes.
        level_balance: exponent p of the additional weight :math:`(L_t / \bar L)^{-p}`, where L_t is the loss that the
            fixed base alone expects at a level. 0 keeps the bound, 1 makes all levels count alike. In between, the
            noisier levels, which settle the shapes of whole images, get more than their few nats. Between levels, log L_t
            is interpolated linearly.
        label_dropout: probability that a labelled row counts as unlabelled, so that the network learns the energies of
            single labels and of all rows together.

    Raises:
        ValueError: a share outside (0, 1], a balance or a label_dropout outside [0, 1], or, at evaluation, a balance for a
            sequence without a base.

    Source: Vincent 2011; weights of Kingma et al. 2021 (arXiv 2107.00630); the ablation "DSM" of Gao et al. 2021.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> value = DenoisingScoreMatching()(model, torch.randn(16, 2).double(), torch.ones(8))
    >>> sorted(value.parts)
    ['classification', 'score_matching']
    """

    classification_weight: NonNegativeFloat = 1.0
    classification_share: Annotated[float, Interval(0, 1, is_low_open=True)] = 1.0
    level_balance: Share = 0.0
    label_dropout: Share = 0.1

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def kernel(self) -> Kernel:
        """An unadjusted kernel, so that no step size is adapted; there are no chains."""
        return ULA()

    def __call__(
        self, model: EnergySequence, x: Batch, step_sizes: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Evaluate the objective on clean rows.

        Args:
            x: clean rows ``(batch, *event)``, or rows with their labels 1, 2, ... ``(batch,)``.
            step_sizes: not used; there are no chains.
        """
        rows, label = split_labels(x)
        label = drop_labels(label, self.label_dropout, generator=generator)
        shift = level_shift(generator=generator).to(rows.device)
        levels = stratified_levels(len(rows), model.num_levels, generator=generator).to(rows.device)
        errors = self.by_row(model, rows, levels + shift, label=label, generator=generator)
        loss = errors.mean()
        statistics = LevelStatistics.unknown(model.num_levels, errors)
        value = ObjectiveValue(loss, {"score_matching": loss.detach()}, statistics)
        if self.classification_weight:
            term = classification_loss(model, rows, shift=shift, share=self.classification_share, generator=generator)
            value = value.plus("classification", term, self.classification_weight)
        return value

    def by_row(
        self,
        model: EnergySequence,
        x: Tensor,
        position: Tensor,
        *,
        label: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Weighted squared error of each row at its own continuous level, ``(batch,)``, in nats.

        Args:
            model: the sequence; the result can be differentiated in its parameters.
            x: clean rows ``(batch, *event)``.
            position: continuous levels ``(batch,)`` in [0, T).
            label: integer labels ``(batch,)``, for a network with labels.
        """
        schedule = model.schedule
        alpha, sigma = (per_row(value(position).to(x), x) for value in (schedule.alpha_at, schedule.sigma_at))
        noise = normal_draws(x.shape, x, generator)
        error = sigma * model.score(alpha * x + sigma * noise, position, label=label, has_graph=True) + noise
        above = (position + 1).clamp(max=float(model.num_levels))
        width = (schedule.log_snr_at(position) - schedule.log_snr_at(above)).to(x)
        return 0.5 * width * self._balance(model, position).to(x) * error.square().flatten(1).sum(1)

    def _balance(self, model: EnergySequence, position: Tensor) -> Tensor:
        """Additional weight at continuous levels, shape of ``position``; 1 where all levels expect the same loss."""
        if not self.level_balance:
            return torch.ones_like(position)
        if model.base is None:
            raise ValueError(
                "level_balance measures levels by the fixed base, and this sequence has none: leave it at 0"
            )
        at, usual = base_errors_at(model, position)
        return (at / usual) ** -self.level_balance
