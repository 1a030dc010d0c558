"""Our fit at its default settings, and the reference density that it leans on."""

from __future__ import annotations

import time
import warnings

import torch
from torch import Tensor

import drl_density as drl
from drl_density.datasets import Dataset
from drl_density.density.fitting.table import Table
from drl_density.errors import DRLDensityWarning
from tests.benchmarks.tables.contract import Fitted


def fit_ours(dataset: Dataset, minutes: float, seed: int) -> tuple[drl.Density, Fitted, float]:
    """``drl.fit`` without a setting but the time, its log density in data units, and the seconds it took."""
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRLDensityWarning)
        density = drl.fit(dataset, seed=seed, max_minutes=minutes, progress=False)
    seconds = time.monotonic() - started
    estimate, origin = density.estimate, density.provenance
    detail = {
        "log_z": round(float(estimate.log_z), 4),
        "log_z_error": round(float(estimate.standard_error), 4),
        "verdict": str(estimate.verdict),
        "member": origin.selected_member,
        "steps": origin.steps_done,
        "bases": {name: round(score, 4) for name, score in origin.base_scores.items()},
        "stages": origin.to_dict()["stages"],
    }
    fitted = Fitted(density.log_density_of, "log Z by importance sampling, checked by annealing", detail)
    return density, fitted, seconds


def reference_of(density: drl.Density, table: Table) -> Fitted:
    """The untouched reference of a density, in data units; where members of several bases were averaged, the best one."""
    model = density.model
    if model.base is None:
        base = table.with_bases(density.settings.base_kind).bases.best
        detail = {"kind": type(base).__name__, "fitted_again": True}

        def in_model_space(u: Tensor) -> Tensor:
            return base.log_prob(u.float())
    else:
        log_snr = model.schedule.log_snr_at(0).float()
        detail = {"kind": density.provenance.selected_member}

        def in_model_space(u: Tensor) -> Tensor:
            return model.base_at(u.float(), log_snr)

    def log_density(rows: Tensor) -> Tensor:
        parts = []
        with torch.no_grad():
            for part in rows.split(4096):
                u, jacobian = density.transform.with_log_jacobian(part)
                parts.append(in_model_space(u).double() + jacobian)
        return torch.cat(parts)

    return Fitted(log_density, "exact", detail)
