"""The density of a fit in folds: the average of the folds' tilts on the reference of all rows, or that reference alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.density.fitting.folds.table import FoldedTable
from drl_density.density.provenance import Baselines, Stage
from drl_density.model import EnergySequence
from drl_density.partition_function.importance import base_draws, tilts
from drl_density.weights import log_mean_exp

ROWS_AT_ONCE = 4096
"""Rows in one pass of a base of many components."""


@dataclass(frozen=True, eq=False)
class FoldScores:
    """Scores of all rows by the models of the folds that they are left out of.

    Attributes:
        reference: Log density of each row under its fold's reference in model space, ``(rows,)``, float64.
        tilt: Normalised tilt of each row by its fold's network, ``(rows,)``, float64.
        independent: Log density of each row under independent columns in model space, ``(rows,)``, float64.
        log_jacobian: Log Jacobian of the transform at each row, ``(rows,)``, float64.
        is_validation: Which rows are validation rows of the whole table, which the transform was not fitted to.
    """

    reference: Tensor
    tilt: Tensor
    independent: Tensor
    log_jacobian: Tensor
    is_validation: Tensor

    @property
    def gain(self) -> float:
        """Mean gain of the tilts over the references, in nats per row."""
        return float(self.tilt.mean())

    @property
    def gain_error(self) -> float:
        """Standard error of :attr:`gain` over rows."""
        return float(self.tilt.std()) / math.sqrt(len(self.tilt))

    @property
    def is_gain(self) -> bool:
        """Whether the tilts gain more than their standard error, so that they are kept."""
        return self.gain > self.gain_error

    def stages(self, *, is_kept: bool) -> tuple[Stage, ...]:
        """What the reference and the tilts score on left-out rows, in model space.

        Args:
            is_kept: Whether the reported density has the tilts.
        """
        reference = float(self.reference.mean())
        return (
            Stage("reference", validation=reference),
            Stage("tilt", reference + self.gain, self.gain, self.gain_error, kept=is_kept),
        )

    def baselines(self, gaussian: float, *, is_kept: bool) -> Baselines:
        """The model's mean log density of the validation rows, and how far simpler densities are from it.

        The validation rows are scored by the models of the folds that they are left out of, and no transform was fitted to
        them. The differences from the Gaussian and from independent columns are those of all left-out rows.

        Args:
            gaussian: Mean log density of all rows under Gaussians fitted without their folds, in model space.
            is_kept: Whether the reported density has the tilts.
        """
        left_out = self.reference + self.tilt if is_kept else self.reference
        model = float((left_out + self.log_jacobian)[self.is_validation].mean())
        lead = model - float(left_out.mean())
        return Baselines(model, gaussian + lead, float(self.independent.mean()) + lead)


def score_folds(
    table: FoldedTable, models: Sequence[EnergySequence], *, num_samples: int, least: int, most: int, seed: int
) -> FoldScores:
    """Score every row by the model of its fold, with log Z from fresh draws of the fold's reference.

    Args:
        table: Table in folds.
        models: Trained model of each fold, in order.
        num_samples: Draws of the reference that give log Z of each fold.
        least: Number of scored rows of a fold at least, reached by dequantisation noise; the copies of a row are averaged.
        most: Number of scored rows of a fold at most.
        seed: Seed of the draws and of the noise.
    """
    found: list[Tensor] = []
    for fold, (part, model) in enumerate(zip(table.parts, models, strict=True)):
        held = part.dataset.validation
        rows = part.validation_rows(seed=seed + fold, least=least, most=most)
        source = part.chosen_rows(held, seed=seed + fold, least=least, most=most)
        u, log_jacobian = part.transform.with_log_jacobian(rows)
        draws = base_draws(model, num_samples, 0.0, torch.Generator().manual_seed(seed + fold))
        tilt = tilts(model, u.float(), 0.0) - log_mean_exp(tilts(model, draws, 0.0))
        independent = torch.distributions.Normal(0.0, 1.0).log_prob(u.double()).sum(1)
        values = torch.stack([_base_values(model, u.float()), tilt, independent, log_jacobian.double()])
        # The copies of a row are evenly many, so that their mean is a sum by row over their number.
        sums = torch.zeros(len(values), len(held), dtype=torch.float64).index_add(1, source, values)
        means = sums / torch.bincount(source, minlength=len(held))
        found.append(torch.cat([means, table.is_validation(fold)[None].double()]))
    reference, tilt, independent, log_jacobian, is_validation = torch.cat(found, 1)
    return FoldScores(reference, tilt, independent, log_jacobian, is_validation.bool())


def _base_values(model: EnergySequence, rows: Tensor) -> Tensor:
    """Log density of level 0's base at rows, ``(n,)``, float64 on the CPU."""
    log_snr = model.schedule.log_snr_at(0.0).to(model.device)
    with torch.no_grad():
        parts = [model.base_at(part.to(model.device), log_snr) for part in rows.split(ROWS_AT_ONCE)]
    return torch.cat(parts).double().cpu()
