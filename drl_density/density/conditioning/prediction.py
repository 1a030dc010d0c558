"""The record of a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from drl_density.datasets import Column
from drl_density.datasets.tables.coding import decode_column
from drl_density.datasets.tables.meaning import label_of
from drl_density.density.tables import as_columns
from drl_density.records.brief import brief
from drl_density.records.intervals import normal_quantile

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Prediction:
    """The density of one column given the others, row by row.

    Attributes:
        column: column that was predicted.
        mean: conditional mean ``(row,)``; NaN for text labels.
        quantiles: conditional quantiles ``(row, quantile)``, in the column's unit and on its support; NaN for labels.
        levels: probability levels of the quantiles.
        values: permitted values ``(value,)`` of a closed support, or the codes of labels; None for an open support.
        probabilities: probability of each permitted value ``(row, value)``, which sum to 1; None for an open support.
        log_density: log density of the row's own value, nats; for a discrete column its log probability, NaN where missing.
        standard_error: error of ``log_density`` from points in cells of given labels, or from draws of missing cells.
        quadrature_error: change of the log normaliser when the grid is halved.
    """

    column: Column
    mean: Tensor
    quantiles: Tensor
    levels: tuple[float, ...]
    values: Tensor | None
    probabilities: Tensor | None
    log_density: Tensor
    standard_error: Tensor
    quadrature_error: Tensor

    __repr__ = brief

    def to_frame(self, *, index: Any = None) -> pd.DataFrame:
        """The figures as a pandas DataFrame with one row for each predicted row.

        A column of labels has ``most_probable`` and ``probability_LABEL`` for each label, any other has ``mean`` and
        ``quantile_LEVEL``. Then come ``log_density``, ``log_density_lower`` and ``log_density_upper``.

        Args:
            index: index of the frame; 0, 1, ... when None.
        """
        if self.probabilities is not None and self.values is not None:
            labels = decode_column(self.values.numpy(), self.column)
            best = labels.take(self.probabilities.argmax(1).numpy()).reset_index(drop=True)
            parts: dict[str, Any] = {"most_probable": best.array}
            for label, probability in zip(labels.tolist(), self.probabilities.T, strict=True):
                parts[f"probability_{label_of(label)}"] = probability
        else:
            parts = {"mean": self.mean}
            parts |= {f"quantile_{level:g}": part for level, part in zip(self.levels, self.quantiles.T, strict=True)}
        lower, upper = self.interval()
        parts |= {"log_density": self.log_density, "log_density_lower": lower, "log_density_upper": upper}
        return as_columns(parts, index)

    def interval(self, probability: float = 0.95) -> tuple[Tensor, Tensor]:
        """Ends of the interval of ``log_density``, nats: normal by its standard error, widened by the quadrature error.

        Args:
            probability: chance in (0, 1) that the interval covers the truth.
        """
        half_width = normal_quantile(probability) * self.standard_error + self.quadrature_error
        return self.log_density - half_width, self.log_density + half_width
