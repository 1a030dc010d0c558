"""Likelihoods of several models on the same rows, paired."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drl_density.datasets.tables.frames import is_frame
from drl_density.density.evaluation.likelihood_report import LikelihoodReport
from drl_density.density.fitted import FittedModel
from drl_density.density.tables import check_same_columns
from drl_density.errors import DataError
from drl_density.records.intervals import normal_interval
from drl_density.shapes import spread

ROUNDING = 1e-6
"""Difference between rows that float32 storage explains, as a share of the largest number of the column."""


@dataclass(frozen=True)
class Comparison:
    """The mean log density of one model, compared with that of the first.

    Attributes:
        name: name of the model.
        mean: its mean log density, nats per row.
        difference: mean of the first model less the mean of this one, nats per row.
        standard_error: standard error of the difference, paired over rows.
    """

    name: str
    mean: float
    difference: float
    standard_error: float

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the normal interval of ``difference`` over rows, nats per row.

        Args:
            probability: chance in (0, 1) that the interval covers the expected difference.
        """
        return normal_interval(self.difference, self.standard_error, probability)


def compare(models: Mapping[str, Any], x: Any) -> list[Comparison]:
    """Mean log densities on the same rows, with paired differences to the first model.

    Where a report is among the models, the others are scored on the rows as that report scored them, dequantised once.

    Args:
        models: models by name. A model has ``log_prob`` (densities, Pyro or torch distributions) or scikit-learn's
            ``score_samples``, or is a module whose call gives such a distribution (a zuko flow; rows are cast to its
            dtype), or a :class:`LikelihoodReport` of exactly these rows.
        x: rows ``(n, d)``, a tensor or an array; or a frame, whose columns and labels the densities find by name. Other
            models get its rows in the order and with the codes of the densities' columns.

    Raises:
        DataError: no rows, fewer than two models, densities of different columns or labels, an object without a density,
            reports of other rows, reports of different schemes, or a frame that is not numbers without a density to read it.

    >>> from torch.distributions import Normal
    >>> x = torch.randn(50, generator=torch.Generator().manual_seed(0))
    >>> rows = compare({"right": Normal(0.0, 1.0), "wide": Normal(0.0, 3.0)}, x)
    >>> rows[1].name, rows[1].difference > 0
    ('wide', True)
    """
    if len(models) < 2:
        raise DataError(f"expected at least two models to compare, got {len(models)}")
    reports = {name: model for name, model in models.items() if isinstance(model, LikelihoodReport)}
    schemes = {report.scheme for report in reports.values()}
    if len(schemes) > 1:
        raise DataError(f"reports of different schemes do not compare: {' | '.join(sorted(schemes))}")
    fitted = {name: model for name, model in models.items() if isinstance(model, FittedModel)}
    if fitted:
        check_same_columns(fitted)
    rows = _numbers(x, next(iter(fitted.values()), None))
    if not len(rows):
        raise DataError("expected at least one row to compare on, got none")
    for name, report in reports.items():
        _check_rows(name, report, rows)
    if reports:
        rows = next(iter(reports.values())).rows.reshape(rows.shape)
    values = {name: _row_values(name, model, rows) for name, model in models.items()}
    first = next(iter(values.values()))
    result = []
    for name, own in values.items():
        gap = first - own
        result.append(Comparison(name, float(own.mean()), float(gap.mean()), float(spread(gap) / math.sqrt(len(gap)))))
    return result


def _numbers(x: Any, reader: FittedModel | None) -> Tensor:
    """Rows as numbers on the CPU, those of a frame as a density reads them."""
    if is_frame(x) and reader is not None:
        return reader.rows(x, missing="keep", least=0)
    values = x if isinstance(x, Tensor) else np.array(x)
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biuf":
        raise DataError(
            f"expected rows of numbers, got type {values.dtype}: give the rows as numbers, or a density among the models, "
            "which reads the labels of a frame"
        )
    return torch.as_tensor(values, device="cpu")


def _check_rows(name: str, report: LikelihoodReport, rows: Tensor) -> None:
    """Raise unless a report's rows are these, up to the noise of its dequantisation."""
    flat = rows.reshape(len(rows), -1).double()
    own = report.rows
    if own.shape != flat.shape:
        raise DataError(
            f"the report {name} is of {tuple(own.shape)} rows, expected {tuple(flat.shape)}: evaluate these"
        )
    allowed = report.widths + ROUNDING * flat.abs().amax(0)
    far = ((own - flat).abs() > allowed).any(1).nonzero().flatten()
    if len(far):
        raise DataError(f"the report {name} is of other rows (row {int(far[0])} differs): evaluate these rows in order")


def _row_values(name: str, model: Any, x: Tensor) -> Tensor:
    """Log density of each row under any kind of model, float64 on the CPU, ``(n,)``."""
    source: Any = model
    if isinstance(model, torch.nn.Module) and not hasattr(model, "log_prob"):
        x, source = x.to(next(iter(model.parameters()), x)), model()
    if isinstance(source, LikelihoodReport):
        values = source.log_likelihood
    elif isinstance(source, FittedModel):
        values = source.log_density_of(source.rows(x, missing="keep", codes="cells"))
    elif hasattr(source, "score_samples"):
        values = torch.as_tensor(source.score_samples(np.asarray(x)))
    elif hasattr(source, "log_prob"):
        with torch.no_grad():
            values = source.log_prob(x)
    else:
        raise DataError(f"{name} has neither log_prob nor score_samples; got a {type(source).__name__}")
    if values.shape != (len(x),):
        raise DataError(f"{name} gave shape {tuple(values.shape)} for {len(x)} rows; expected one number per row")
    return values.double().cpu()
