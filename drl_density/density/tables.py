"""A user's rows in, answers out: tensors for tensors, and frames with their own index for frames."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from drl_density.datasets.column import Column
from drl_density.datasets.images import scaling_of
from drl_density.datasets.tables.cells import plain_array
from drl_density.datasets.tables.coding import Codes, Missing, decode_rows, encode_array, encode_frame, refuse_missing
from drl_density.datasets.tables.frames import as_frame, is_frame, is_pandas, is_series
from drl_density.errors import DataError
from drl_density.records.brief import brief
from drl_density.shapes import is_integer

if TYPE_CHECKING:
    import pandas as pd

MOST_NAMES = 8
"""Names that a message lists at most."""

PlainRows = Tensor | np.ndarray | Sequence[float] | Sequence[Sequence[float]]
"""Rows without names, for which answers are tensors."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Log densities of rows with their interval by the error of log Z, nats.

    Attributes:
        log_density: normalised log density of each row, of the rows' batch shape.
        log_density_lower: lower end of the interval.
        log_density_upper: upper end of the interval.
    """

    log_density: Tensor
    log_density_lower: Tensor
    log_density_upper: Tensor

    __repr__ = brief


class Points(NamedTuple):
    """A user's rows as one table.

    Attributes:
        rows: table ``(n, d)`` in data units, float64 on the CPU; NaN for missing values.
        batch: batch shape of the rows as they were given.
        index: index of the frame that they came in, or None for tensors, arrays and single rows.
    """

    rows: Tensor
    batch: torch.Size
    index: Any


def column_place(columns: Sequence[Column], key: Any) -> int:
    """Place of a column, given its name or its index; negative indices count from the end.

    Args:
        columns: columns of a fit, in order.
        key: name, or index in [-d, d).

    Raises:
        DataError: no such column, or a key that is neither a name nor a whole number.

    >>> column_place((Column("a"), Column("b")), -1)
    1
    """
    names = [column.name for column in columns]
    if isinstance(key, str):
        if key in names:
            return names.index(key)
        close = difflib.get_close_matches(key, names)
        hint = f"did you mean {', '.join(close)}?" if close else f"columns are {', '.join(names)}"
        raise DataError(f"there is no column {key!r}: {hint}")
    if not is_integer(key):
        raise DataError(
            f"a column is given by its name or its index, got {key!r} of type {type(key).__name__}; "
            f"columns are {', '.join(names)}"
        )
    if not -len(names) <= key < len(names):
        raise DataError(f"column indices run from {-len(names)} to {len(names) - 1}, got {key}")
    return int(key) % len(names)


def read_points(
    x: Any,
    columns: Sequence[Column],
    event_shape: Sequence[int],
    *,
    absent: Sequence[str] = (),
    codes: Codes = "exact",
) -> Points:
    """A user's rows of any form as one table, with missing values kept as NaN.

    Args:
        x: rows ``(*, *event)`` or flat ``(*, d)``: a tensor, an array, nested lists, a frame, or a pandas Series that is
            one named row, or the one column of a density of one column.
        columns: columns of the fit, in order.
        event_shape: shape of one point, with d elements.
        absent: names of columns that a frame may lack; they are missing then.
        codes: "exact" for codes of labels in tensors, "cells" also for dequantised ones.

    Raises:
        DataError: rows of another shape or of other columns, unknown labels or codes, or infinite values.

    >>> read_points([[1.0, 2.0], [3.0, 4.0]], (Column("a"), Column("b")), (2,)).batch
    torch.Size([2])
    """
    if is_series(x):
        return _points_of_series(x, columns, absent=absent)
    if is_frame(x):
        rows = encode_frame(x, columns, missing="keep", absent=absent)
        return Points(rows, torch.Size([len(rows)]), index_of(x))
    if hasattr(x, "to_frame") or type(x).__module__.partition(".")[0] == "pyarrow":  # columns of Dask, Polars and Arrow
        raise DataError(
            f"a {type(x).__name__} is one column: give a table or a frame of all columns, "
            f"{_shortened([column.name for column in columns])}"
        )
    array, event = plain_array(x), tuple(event_shape)
    if array.ndim >= len(event) and array.shape[array.ndim - len(event) :] == event:
        batch = array.shape[: array.ndim - len(event)]
    elif array.ndim and array.shape[-1] == math.prod(event):
        batch = array.shape[:-1]
    elif len(event) == array.ndim == 3 and event[0] == 1 and array.shape[1:] == event[1:]:
        batch = array.shape[:1]  # grey images without their one channel
    else:
        raise DataError(f"expected rows of shape {event}, got {tuple(array.shape)}{_other_images(event, array.shape)}")
    if len(event) == 3 and min(column.upper for column in columns) >= 255 and (scaling := scaling_of(array)):
        raise DataError(f"these images {scaling}")
    flat = array.reshape(math.prod(batch), math.prod(event))
    return Points(encode_array(flat, columns, missing="keep", where="the rows", codes=codes), torch.Size(batch), None)


def _other_images(event: tuple[int, ...], shape: Sequence[int]) -> str:
    """How images of another shape differ from those of a fit, in words; empty for rows of a table."""
    if len(event) != 3 or len(shape) < 3:
        return ""
    channels, size = ("grey", "colour"), tuple(shape[-2:])
    if tuple(shape[-3:-1]) == event[1:] and shape[-1] in (1, 3):
        return ": give the channels first, (n, channels, height, width)"
    if size != event[1:]:
        return f": the fit has images of {event[2]}x{event[1]} pixels; scale them to this size"
    return f": the fit has {channels[event[0] == 3]} images; convert them first"


def _points_of_series(series: Any, columns: Sequence[Column], *, absent: Sequence[str]) -> Points:
    """One row whose cells are named, or the column of a density of one column."""
    names = [column.name for column in columns]
    labels = [str(label) for label in series.index]
    if {*names} <= {*labels, *absent} and len(set(labels)) == len(labels):
        cells = {label: [value] for label, value in zip(labels, series.tolist(), strict=True)}
        frame = named_cells(cells)
        return Points(encode_frame(frame, columns, missing="keep", absent=absent), torch.Size([]), None)
    if len(names) == 1:
        rows = encode_frame(series.to_frame(names[0]), columns, missing="keep")
        return Points(rows, torch.Size([len(rows)]), series.index)
    raise DataError(
        f"a Series stands for one row, and its index must name the columns {_shortened(names)}; this one has {len(labels)} "
        f"values with the labels {_shortened(labels)}. Give one row as frame.iloc[0], several as a DataFrame, and values in "
        "the order of the columns as series.to_numpy()"
    )


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMES]) + (f", ... ({len(names)})" if len(names) > MOST_NAMES else "")


class HasColumns:
    """A table's columns and points, and the ways of a user's rows into them and back.

    Attributes:
        columns: name, kind, support and storage of each column.
        event_shape: shape of one data point.
    """

    columns: tuple[Column, ...]
    event_shape: tuple[int, ...]

    @property
    def num_features(self) -> int:
        """Number of columns of one data point."""
        return math.prod(self.event_shape)

    @property
    def widths(self) -> Tensor:
        """Rounding width of every column ``(d,)``; 0 for a continuous one."""
        return torch.tensor([column.width for column in self.columns], dtype=torch.float64)

    @property
    def is_closed(self) -> Tensor:
        """Columns with a closed support, boolean ``(d,)``."""
        return torch.tensor([column.is_closed for column in self.columns])

    def are_permitted(self, rows: Tensor) -> Tensor:
        """Which rows have permitted values in all columns with a closed support, boolean ``(n,)``; NaN counts as permitted.

        Args:
            rows: rows ``(n, d)`` in data units, not dequantised.
        """
        permitted = torch.ones(len(rows), dtype=torch.bool)
        for place, column in enumerate(self.columns):
            if column.is_closed:
                permitted &= column.has(rows[:, place])
        return permitted

    def column_index(self, key: int | str) -> int:
        """Place of a column, given its name or its index; negative indices count from the end.

        Args:
            key: name, or index in [-d, d).

        Raises:
            DataError: no such column, or a key that is neither a name nor a whole number.
        """
        return column_place(self.columns, key)

    def rows(
        self,
        x: Any,
        *,
        missing: Missing = "refuse",
        absent: Sequence[str] = (),
        codes: Codes = "exact",
        least: int = 1,
    ) -> Tensor:
        """A user's rows as one checked table ``(n, d)`` in data units, float64 on the CPU.

        In a frame, cells are read by the columns of the fit: a column of labels holds labels, never codes. Tensors, arrays
        and lists of numbers hold codes 0, 1, ... in such a column.

        Args:
            x: rows ``(*, *event)`` or flat ``(*, d)``: a tensor, an array, nested lists, or a frame, whose columns are
                found by name.
            missing: whether NaN is refused or kept as a missing value.
            absent: columns that a frame may lack; they are missing then.
            codes: "exact" for codes of labels in tensors, "cells" also for dequantised ones.
            least: fewest rows.

        Raises:
            DataError: too few rows, rows of another shape, unknown labels or codes, infinite values, or NaN where it is
                refused.
        """
        rows = self.points(x, absent=absent, codes=codes).rows
        if len(rows) < least:
            number = "one row" if least == 1 else f"{least} rows"
            raise DataError(f"expected at least {number} of shape {self.event_shape}, got {len(rows) or 'none'}")
        if missing == "refuse":
            refuse_missing(rows.numpy(), self.columns, where="the rows", first_row=1 if is_frame(x) else 0)
        return rows

    def points(self, x: Any, *, absent: Sequence[str] = (), codes: Codes = "exact") -> Points:
        """A user's rows as one table, with their batch shape, and the index of their frame if they have one.

        Args:
            x: rows ``(*, *event)`` or flat ``(*, d)``, or a frame.
            absent: columns that a frame may lack; they are NaN then.
            codes: "exact" for codes of labels in tensors, "cells" also for dequantised ones.

        Raises:
            DataError: rows of another shape, unknown labels or codes, or infinite values.
        """
        return read_points(x, self.columns, self.event_shape, absent=absent, codes=codes)

    def to_frame(self, rows: Any, *, index: Any = None) -> pd.DataFrame:
        """Rows as a pandas DataFrame with the columns' names, types and labels.

        Args:
            rows: rows ``(n, *event)`` or ``(n, d)`` in data units with codes for labels, such as draws.
            index: index of the frame; 0, 1, ... when None.

        Raises:
            DataError: rows of another shape, or values in no cell of a label.
        """
        return decode_rows(self.points(rows, codes="cells").rows, self.columns, index=index)


def check_same_columns(tables: Mapping[str, HasColumns]) -> None:
    """Check that rows mean the same to several fits: columns of one order, and labels with the same codes.

    Args:
        tables: fits by what a message calls them.

    Raises:
        DataError: other columns, another order of them, another shape, or other labels than the first fit has.
    """
    (called, first), *others = tables.items()
    names = [column.name for column in first.columns]
    for other_called, other in others:
        own = [column.name for column in other.columns]
        if names != own or tuple(first.event_shape) != tuple(other.event_shape):
            order = " in the same order" if sorted(names) == sorted(own) else ""
            raise DataError(
                f"expected densities over the same columns{order}: {other_called} has {_shortened(own)} of shape "
                f"{tuple(other.event_shape)}, {called} {_shortened(names)} of shape {tuple(first.event_shape)}"
            )
        for column, twin in zip(first.columns, other.columns, strict=True):
            if column.categories != twin.categories:
                raise DataError(
                    f"column {column.name!r} has labels {twin.categories} in {other_called} and {column.categories} in "
                    f"{called}, so their codes mean different things: fit both on tables with the same labels"
                )


def named_cells(cells: Mapping[str, Any]) -> Any:
    """A pandas DataFrame of objects from lists of cells by name, so that no type is guessed from single cells."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series(list(values), dtype=object) for name, values in cells.items()})


def index_of(frame: Any) -> Any:
    """The index that an answer about a frame gets: its own, 0, 1, ... for other frames, None for an array of records."""
    if is_pandas(frame):
        return frame.index
    if not is_frame(frame) or hasattr(frame, "dtype"):
        return None
    import pandas as pd

    return pd.RangeIndex(as_frame(frame).num_rows)


def as_series(values: Tensor, index: Any, name: str) -> pd.Series:
    """Values ``(n,)`` as a pandas Series.

    Args:
        values: one value for each row.
        index: index of the series.
        name: name of the series.
    """
    import pandas as pd

    return pd.Series(values.numpy(), index=index, name=name)


def as_columns(values: Mapping[str, Any], index: Any) -> pd.DataFrame:
    """Values of each column by name as a pandas DataFrame.

    Args:
        values: by name, a tensor ``(n,)`` or a list.
        index: index of the frame; 0, 1, ... when None.
    """
    import pandas as pd

    parts = {name: part.numpy() if isinstance(part, Tensor) else part for name, part in values.items()}
    return pd.DataFrame(parts, index=index)
