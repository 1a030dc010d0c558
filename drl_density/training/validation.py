"""Figures of held-out rows without a normalising constant: those of recovery chains, or the training objective itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from drl_density.model import EnergySequence
from drl_density.training.objectives.classification import classification_loss
from drl_density.training.objectives.objective import Objective, stratified_levels
from drl_density.training.objectives.recovery_likelihood import RecoveryLikelihood
from drl_density.training.state import Record


class HeldOutFigures(Protocol):
    """Figures of an averaged model on held-out rows."""

    def __call__(self, model: EnergySequence, rows: Tensor, step_sizes: Tensor, /) -> Record:
        """Numbers, or numbers per level, by name; lower values of ``validation_loss`` are better."""
        ...


@dataclass(frozen=True)
class ValidationLoss:
    """Validation loss in nats per row; lower is better, and ``total`` is what is compared.

    Attributes:
        cross_entropy: cross-entropy of guessing the noise level of held-out rows.
        recovery_gap: mean of F(data) - F(chain end) on the recovery conditionals of held-out rows.

    >>> ValidationLoss(cross_entropy=1.0, recovery_gap=-0.25).total
    1.25
    """

    cross_entropy: float
    recovery_gap: float

    @property
    def total(self) -> float:
        """Cross-entropy plus the absolute value of the recovery gap."""
        return self.cross_entropy + abs(self.recovery_gap)


def validation_loss(
    model: EnergySequence, x: Tensor, step_sizes: Tensor, *, seed: int = 0, objective: RecoveryLikelihood | None = None
) -> ValidationLoss:
    """Evaluate the validation loss, with the same noise at every call.

    The cross-entropy is a proper score against the known base: a drift of the constants, or of the energy far from the
    base, worsens it. The recovery gap has expectation zero for the true density, so deviations in both directions
    count. The self-normalised likelihood is never used.

    Args:
        x: held-out clean rows ``(rows, *event)``.
        step_sizes: chain step size per level ``(T,)``, in units of the conditional.
        seed: seed of the fixed noise.
        objective: objective whose kernel and number of steps the gap uses; by default a new ``RecoveryLikelihood()``.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> loss = validation_loss(model, torch.randn(64, 2).double(), torch.full((8,), 0.8).double())
    >>> loss.total == loss.cross_entropy + abs(loss.recovery_gap)
    True
    """
    generator = torch.Generator().manual_seed(seed)
    objective = RecoveryLikelihood() if objective is None else objective
    with torch.no_grad():
        cross_entropy = float(classification_loss(model, x, generator=generator))
        levels = stratified_levels(len(x), model.num_levels, generator=generator).to(x.device)
        contrast = objective.contrast(model, x, levels, step_sizes, generator=generator)
    return ValidationLoss(cross_entropy, -float(contrast.loss))


def spurious_gap(model: EnergySequence, x: Tensor, step_sizes: Tensor, *, seed: int = 0, num_steps: int = 20) -> Tensor:
    """Mean of F(end of a short chain started at x_{t+1}) - F(data) per level, shape ``(T,)``.

    A value far above zero shows modes that the data do not have and that chains started at the data never visit.

    Args:
        x: held-out clean rows ``(rows, *event)``.
        step_sizes: chain step size per level ``(T,)``, in units of the conditional.
        seed: seed of the fixed noise.
        num_steps: number of kernel steps per chain.
    """
    generator = torch.Generator().manual_seed(seed)
    levels = stratified_levels(len(x), model.num_levels, generator=generator).to(x.device)
    objective = RecoveryLikelihood(num_steps=num_steps, noisier_share=1.0)
    with torch.no_grad():
        contrast = objective.contrast(model, x, levels, step_sizes, generator=generator)
    return -contrast.statistics.energy_gap


def recovery_figures(model: EnergySequence, rows: Tensor, step_sizes: Tensor) -> Record:
    """The validation loss with its parts, and the spurious gap of every level, with the same noise at every call.

    Args:
        rows: held-out clean rows ``(rows, *event)``.
        step_sizes: chain step size per level ``(T,)``, in units of the conditional.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> found = recovery_figures(model, torch.randn(64, 2).double(), torch.full((8,), 0.8).double())
    >>> sorted(found)
    ['spurious_gap', 'validation_cross_entropy', 'validation_loss', 'validation_recovery_gap']
    """
    held_out = validation_loss(model, rows, step_sizes)
    return {
        "validation_loss": held_out.total,
        "validation_cross_entropy": held_out.cross_entropy,
        "validation_recovery_gap": held_out.recovery_gap,
        "spurious_gap": spurious_gap(model, rows, step_sizes).double().tolist(),
    }


@dataclass(frozen=True)
class ObjectiveFigures:
    """The loss of a training objective on held-out rows and its parts, with the same noise at every call.

    This suits an objective whose loss is a proper score by itself, and needs no chains.

    Attributes:
        objective: objective whose value is recorded.
        seed: seed of the fixed noise.
    """

    objective: Objective
    seed: int = 0

    def __call__(self, model: EnergySequence, rows: Tensor, step_sizes: Tensor, /) -> Record:
        """The loss as ``validation_loss``, and each part of it as ``validation_`` with its name.

        Args:
            rows: held-out clean rows ``(rows, *event)``.
            step_sizes: chain step size per level ``(T,)``, in units of the conditional.
        """
        with torch.no_grad():
            value = self.objective(model, rows, step_sizes, generator=torch.Generator().manual_seed(self.seed))
        parts = {f"validation_{name}": float(part) for name, part in value.parts.items()}
        return {"validation_loss": float(value.loss), **parts}
