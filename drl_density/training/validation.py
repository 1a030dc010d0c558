"""The validation criterion of training: held-out noise-level cross-entropy plus the held-out recovery gap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.model import EnergySequence
from drl_density.training.objectives import RecoveryLikelihood, classification_loss, stratified_levels


@dataclass(frozen=True)
class ValidationLoss:
    """Both parts in nats per row; ``total`` is what is compared. Lower is better.

    Attributes:
        cross_entropy: of guessing the noise level of held-out rows.
        recovery_gap: of held-out rows on the recovery conditionals.

    >>> ValidationLoss(cross_entropy=1.0, recovery_gap=-0.25).total
    1.25
    """

    cross_entropy: float
    recovery_gap: float

    @property
    def total(self) -> float:
        """Cross-entropy plus the size of the recovery gap."""
        return self.cross_entropy + abs(self.recovery_gap)


def validation_loss(
    model: EnergySequence, x: Tensor, step_sizes: Tensor, *, seed: int = 0, objective: RecoveryLikelihood | None = None
) -> ValidationLoss:
    """Evaluate the criterion on held-out clean rows with noise that is the same at every call.

    The cross-entropy is a proper score against the known base: a drift of constants, or of the energy far from the
    base, worsens it. The recovery gap mean F(data) - F(chain end) is zero in expectation for a model that is right, and
    so is held against it in either direction. The self-normalized likelihood is never used.

    Args:
        model: the sequence.
        x: held-out clean rows ``(rows, *event)``.
        step_sizes: kernel step sizes per level, in units of the conditional.
        seed: of the fixed noise.
        objective: whose kernel and steps the gap uses.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> loss = validation_loss(model, torch.randn(64, 2).double(), torch.full((8,), 0.8).double())
    >>> loss.total == loss.cross_entropy + abs(loss.recovery_gap)
    True
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        cross_entropy = float(classification_loss(model, x, generator=generator))
    objective = RecoveryLikelihood() if objective is None else objective
    levels = stratified_levels(len(x), model.num_levels, generator).to(x.device)
    shift = torch.zeros((), dtype=torch.float64, device=x.device)
    with torch.no_grad():
        contrast, _ = objective.contrast(model, x, (levels, shift, step_sizes), generator)
    return ValidationLoss(cross_entropy, -float(contrast))
