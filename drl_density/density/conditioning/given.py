"""Reading what is given to a conditional: named values, or a point with missing ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from drl_density.density.fitted import FittedModel
from drl_density.errors import DataError

Given = Mapping[int | str, float | str]


def read_given(density: FittedModel, given: Given | Any, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(row ``(d,)`` with NaN in missing places, boolean mask of missing columns).

    Args:
        density: the fit whose columns are conditioned on.
        given: values or labels by column, or a point ``(*event)`` with NaN for missing values.
        observed: mask over a complete point, true for the values to condition on.

    Raises:
        DataError: unknown or repeated columns, values that are not finite, everything or nothing given.
    """
    if isinstance(given, Mapping):
        if observed is not None:
            raise DataError("a mask of observed values goes with a whole point, not with named values")
        row = torch.full((density.num_features,), math.nan, dtype=torch.float64)
        for key, value in given.items():
            index = density.column_index(key)
            if not bool(row[index].isnan()):
                raise DataError(f"column {density.columns[index].name!r} is given twice, the second time as {key!r}")
            row[index] = _value_of(density, index, value)
    else:
        row = _row_of(density, torch.as_tensor(given, dtype=torch.float64, device="cpu"), observed)
    is_missing = row.isnan()
    if bool(is_missing.all()) or not bool(is_missing.any()):
        what = "nothing is given" if bool(is_missing.all()) else "every column is given"
        raise DataError(f"{what}: condition on at least one column and leave at least one")
    return row, is_missing


def _row_of(density: FittedModel, point: Tensor, observed: Tensor | None) -> Tensor:
    """A point as a flat row, with NaN where ``observed`` is false."""
    row = point.flatten()
    if observed is not None:
        if observed.shape != point.shape or observed.dtype != torch.bool:
            raise DataError(
                f"expected a boolean mask of shape {tuple(point.shape)}, true where values are observed, got "
                f"{observed.dtype} of shape {tuple(observed.shape)}"
            )
        unseen = observed.flatten() & row.isnan()
        if bool(unseen.any()):
            raise DataError(f"{int(unseen.sum())} values marked as observed are NaN")
        row = torch.where(observed.flatten(), row, math.nan)
    if row.numel() != density.num_features or bool(row.isinf().any()):
        raise DataError(
            f"expected a point of shape {tuple(density.event_shape)} with NaN where values are missing, got shape "
            f"{tuple(point.shape)}"
        )
    return row


def _value_of(density: FittedModel, index: int, value: float | str) -> float:
    """A number as it is, a label as its code."""
    column = density.columns[index]
    if isinstance(value, str):
        labels = column.categories or ()
        if value not in labels:
            known = ", ".join(labels) if labels else "numbers"
            raise DataError(f"column {column.name!r} has no label {value!r}; it holds {known}")
        return float(labels.index(value))
    if not math.isfinite(value):
        raise DataError(f"column {column.name!r}: expected a finite number to condition on, got {value}")
    return float(value)
