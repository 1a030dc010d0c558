"""Reading what is given to a conditional: named values, or a point with missing ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drl_density.datasets.tables.cells import plain_array, read_cells
from drl_density.datasets.tables.coding import encode_array
from drl_density.datasets.tables.frames import is_frame, is_series
from drl_density.density.fitted import FittedModel
from drl_density.errors import DataError

Given = Mapping[int | str, float | str]


def read_given(density: FittedModel, given: Given | Any, observed: Any = None) -> tuple[Tensor, Tensor]:
    """(row ``(d,)`` with NaN in missing places, boolean mask of missing columns).

    Args:
        density: the fit whose columns are conditioned on.
        given: values or labels by column, a pandas Series or a frame of one row with NaN for missing values; or a point
            ``(*event)`` with NaN for missing values and codes for labels.
        observed: mask over a complete point, true for the values to condition on.

    Raises:
        DataError: unknown or repeated columns, values that are not finite, everything or nothing given.
    """
    if isinstance(given, Mapping) or is_series(given) or is_frame(given):
        if observed is not None:
            raise DataError("a mask of observed values goes with a whole point, not with named values")
        row = _named_row(density, given) if isinstance(given, Mapping) else _framed_row(density, given)
    else:
        row = _row_of(density, given, observed)
    is_missing = row.isnan()
    if bool(is_missing.all()) or not bool(is_missing.any()):
        what = "nothing is given" if bool(is_missing.all()) else "every column is given"
        raise DataError(f"{what}: condition on at least one column and leave at least one")
    return row, is_missing


def _framed_row(density: FittedModel, given: Any) -> Tensor:
    """The one row of a pandas Series or of a frame, with NaN for missing values and for columns that are not there."""
    rows = density.points(given, absent=[column.name for column in density.columns]).rows
    if len(rows) != 1:
        raise DataError(f"condition on one row at a time, got {len(rows)} rows")
    return rows[0]


def _named_row(density: FittedModel, given: Mapping[Any, Any]) -> Tensor:
    """A row with the values of named columns, and NaN in the others."""
    row = torch.full((density.num_features,), math.nan, dtype=torch.float64)
    for key, value in given.items():
        index = density.column_index(key)
        if not bool(row[index].isnan()):
            raise DataError(f"column {density.columns[index].name!r} is given twice, the second time as {key!r}")
        row[index] = _value_of(density, index, value)
    return row


def _row_of(density: FittedModel, given: Any, observed: Any) -> Tensor:
    """A point as a flat row, with NaN where ``observed`` is false."""
    point = plain_array(given)
    if point.size != density.num_features:
        raise DataError(
            f"expected a point of shape {tuple(density.event_shape)} with NaN where values are missing, got shape "
            f"{tuple(point.shape)}"
        )
    row = encode_array(point.reshape(1, -1), density.columns, missing="keep", where="the point")[0]
    if observed is not None:
        mask = torch.as_tensor(observed)
        if mask.shape != point.shape or mask.dtype != torch.bool:
            raise DataError(
                f"expected a boolean mask of shape {tuple(point.shape)}, true where values are observed, got "
                f"{mask.dtype} of shape {tuple(mask.shape)}"
            )
        unseen = mask.flatten() & row.isnan()
        if bool(unseen.any()):
            raise DataError(f"{int(unseen.sum())} values marked as observed are NaN")
        row = torch.where(mask.flatten(), row, math.nan)
    return row


def _value_of(density: FittedModel, index: int, value: Any) -> float:
    """A number as it is, a label as its code."""
    column = density.columns[index]
    value = value.detach() if isinstance(value, Tensor) else value
    if np.ndim(value) or isinstance(value, Mapping | set):
        raise DataError(f"column {column.name!r}: expected one value to condition on, got {value!r}")
    read, labels = read_cells([value]), column.categories
    found = read.as_numbers() if labels is None else read.as_labels(labels)
    number = float(found[0][0])
    if math.isfinite(number):
        return number
    if labels is not None:
        raise DataError(f"column {column.name!r} has no label {value!r}; it holds {', '.join(labels)}")
    if isinstance(value, str):
        raise DataError(f"column {column.name!r} has no label {value!r}; it holds numbers")
    raise DataError(f"column {column.name!r}: expected a finite number to condition on, got {value!r}")
