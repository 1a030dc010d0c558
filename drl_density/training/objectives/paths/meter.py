"""Measured tables of the steps of a path, which path matching needs: variances, scatters and errors of the scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drl_density.model import EnergySequence
from drl_density.training.objectives.base_errors import base_errors
from drl_density.training.objectives.paths.matching import BASE_ERRORS, SCATTER, VARIANCES, PathMatching
from drl_density.training.objectives.paths.steps import (
    base_and_score,
    clean_rows,
    log_kernels,
    noised_pair,
    reverse_mean,
)
from drl_density.training.state import Record, TrainingState

NOISE_SEED = 0
"""Seed of the noise of measurements, the same at every call, so that evaluations compare."""


class PathMeter:
    """Measures the steps of the path on held-out rows: variances of the reverse steps, scatter, and the error of scores.

    Called as the figures of an evaluation, it records the sum of the score errors in nats, and the scatter at every level.
    Their weighted sum is the validation loss. :meth:`redraw` then puts the tables into the state, which saves them.

    Args:
        objective: objective whose steps are measured.
        most_rows: rows of each step at most.

    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> from drl_density.schedule import NoiseSchedule
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> meter = PathMeter(PathMatching(steps_per_level=1), most_rows=16)
    >>> sorted(meter(model, torch.randn(16, 2), torch.ones(4)))
    ['level_scatter', 'validation_loss', 'validation_scatter', 'validation_score_matching']
    """

    def __init__(self, objective: PathMatching, *, most_rows: int = 64) -> None:
        self.objective, self.most_rows = objective, most_rows
        self._last: dict[str, Tensor] = {}

    def __call__(self, model: EnergySequence, rows: Tensor, step_sizes: Tensor) -> Record:
        """Figures of held-out rows, and lower values of ``validation_loss`` are better.

        Args:
            rows: held-out clean rows ``(rows, *event)``.
            step_sizes: not used; there are no chains.
        """
        errors, self._last = self._measured(model, rows)
        scatter = self._last[SCATTER]
        total = float(errors.sum())
        loss = total + self.objective.increment_weight * float(scatter.square().sum())
        return {
            "validation_loss": loss,
            "validation_score_matching": total,
            "validation_scatter": float(scatter.square().sum().sqrt()),
            "level_scatter": self._by_level(scatter, model.num_levels),
        }

    def _by_level(self, scatter: Tensor, num_levels: int) -> list[float]:
        """Scatter of the steps of each level together, nats; NaN for the topmost level, from which no step leads on."""
        size = self.objective.steps_per_level
        found = scatter.square().split(size) if num_levels > 1 else [scatter.square()]
        values = [float(part.sum().sqrt()) for part in found]
        return values + [math.nan] * (num_levels - len(values))

    def redraw(self, state: TrainingState) -> None:
        """Put the tables of the last evaluation into the state.

        Args:
            state: state whose average was evaluated; its ``drawn`` is changed in place.
        """
        state.drawn.update(self._last)

    def begin(self, state: TrainingState, rows: Tensor) -> None:
        """Measure the tables of a state that has none yet.

        Args:
            state: new or restored state; its ``drawn`` is changed in place.
            rows: held-out clean rows ``(rows, *event)``.
        """
        if VARIANCES not in state.drawn:
            _, tables = self._measured(state.model, rows.to(state.model.device))
            state.drawn.update(tables)

    def _measured(self, model: EnergySequence, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Errors of the scores in nats ``(steps,)``, and the tables."""
        generator = torch.Generator().manual_seed(NOISE_SEED)
        is_training = model.training
        model.eval()
        errors, variances, scatters = [], [], []
        for index in range(self.objective.num_steps(model)):
            step = self.objective.step(model, index)
            x = rows[torch.randint(len(rows), (min(self.most_rows, len(rows)),), generator=generator).to(rows.device)]
            cleaner, noisier = noised_pair(x, step, generator)
            log_snr = model.schedule.log_snr_at(step.noisier).to(x.device)
            base, theirs = base_and_score(model, noisier, log_snr)
            point = noisier.detach().requires_grad_(True)
            tilt = model.tilt_at(point, log_snr)
            own = torch.autograd.grad(tilt.sum(), point)[0] if tilt.requires_grad else torch.zeros_like(point)
            score = own + theirs
            error = (clean_rows(noisier, score, step) - x).square().flatten(1).mean(0)
            # Few rows say little about single columns: half of each variance is the mean over all of them.
            variance = step.variance + step.factors[1] ** 2 * 0.5 * (error + error.mean())
            mean = reverse_mean(noisier, score, step)
            with torch.no_grad():
                start = model.log_density(cleaner, step.cleaner)
                kernels = log_kernels(cleaner, noisier, mean, step, variance)
                increments = (start - base - tilt.detach() + kernels).double()
                noise = (noisier - step.alphas[1] * x) / step.sigmas[1]
                width = float(model.schedule.log_snr_at(step.cleaner) - model.schedule.log_snr_at(step.noisier))
                squared = (step.sigmas[1] * score + noise).square().flatten(1).sum(1)
            errors.append(0.5 * width * squared.double().mean())
            variances.append(variance)
            scatters.append(increments.std())
        model.train(is_training)
        tables = {VARIANCES: torch.stack(variances).detach().cpu(), SCATTER: torch.stack(scatters).detach().cpu()}
        tables[BASE_ERRORS] = self._last[BASE_ERRORS] if BASE_ERRORS in self._last else base_errors(model)[:-1].cpu()
        return torch.stack(errors).detach().cpu(), tables
