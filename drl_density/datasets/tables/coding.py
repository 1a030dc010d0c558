"""Rows of a known table in and out: cells become numbers and codes by the columns of a fit, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from drl_density.datasets.column import Column
from drl_density.datasets.tables.cells import array_numbers, plain_array, read_cells
from drl_density.datasets.tables.frames import AnyFrame, as_frame
from drl_density.datasets.tables.meaning import TOKENS, Problem, composed
from drl_density.datasets.tables.raw_table import RawTable, column_names
from drl_density.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Missing = Literal["refuse", "keep"]
Codes = Literal["exact", "cells"]


def encode_frame(
    frame: Any,
    columns: Sequence[Column],
    *,
    missing: Missing = "refuse",
    absent: Sequence[str] = (),
    where: str = "",
    first_row: int = 1,
    tokens: frozenset[str] = TOKENS,
) -> Tensor:
    """Rows ``(n, d)`` of a frame in the order and coding of a fit's columns, float64.

    The columns of the fit decide what a cell means, whatever else is in the frame. A column of labels reads labels, never
    codes: 12, 12.0 and "12" are the label "12". A column of numbers reads numbers.

    Args:
        frame: a pandas DataFrame, or any other frame with named columns. Further columns are ignored.
        columns: columns of the fit, in order.
        missing: whether missing values are refused or kept as NaN.
        absent: names of columns that the frame may lack; they are missing then.
        where: name of the source, for messages.
        first_row: number that messages give to the first row.
        tokens: texts that mean a missing value, in lower case.

    Raises:
        DataError: columns that are not there, texts in a column of numbers, unknown labels, infinite values, or missing
            values where they are refused.

    >>> import pandas as pd
    >>> columns = (Column("a"), Column("q", "categorical", 1.0, categories=("3", "12")))
    >>> encode_frame(pd.DataFrame({"q": [12.0, 3.0], "a": ["0.5", None]}), columns, missing="keep")
    tensor([[0.5000, 1.0000],
            [   nan, 0.0000]], dtype=torch.float64)
    """
    frame = as_frame(frame)
    names = column_names(frame.names, where=where)
    refuse_lacking(names, [column.name for column in columns], absent, where)
    values = np.full((frame.num_rows, len(columns)), math.nan)
    places = {composed(name): place for place, name in enumerate(names)}
    for index, column in enumerate(columns):
        place = places.get(composed(column.name))
        if place is not None:
            cells = frame.column(place)
            values[:, index] = encode_column(cells, column, where=where, first_row=first_row, tokens=tokens)
    if missing == "refuse":
        refuse_missing(values, columns, where=where, first_row=first_row)
    return torch.from_numpy(values)


def refuse_lacking(names: Sequence[str], wanted: Sequence[str], absent: Sequence[str], where: str) -> None:
    """Refuses a table that lacks columns of a fit.

    Args:
        names: names of the table's columns.
        wanted: names of the fit's columns.
        absent: names of columns that the table may lack.
        where: name of the source, for messages.

    Raises:
        DataError: the columns that are lacking, and those that are there.
    """
    known = {composed(name) for name in (*names, *absent)}
    lacking = [name for name in wanted if composed(name) not in known]
    if lacking:
        raise DataError(
            f"{where or 'the table'}: the fit has columns that are not here: {', '.join(lacking)}; "
            f"here are {', '.join(names)}"
        )


def encode_table(
    table: RawTable,
    columns: Sequence[Column],
    *,
    missing: Missing = "refuse",
    absent: Sequence[str] = (),
    where: str = "",
    tokens: frozenset[str] = TOKENS,
) -> Tensor:
    """Rows ``(n, d)`` of a table that was read, in the order and coding of a fit's columns, float64.

    Args:
        table: table as it was read. Its cells are read again by the rules of the columns.
        columns: columns of the fit, in order.
        missing: whether missing values are refused or kept as NaN.
        absent: names of columns that the table may lack; they are missing then.
        where: name of the source, for messages.
        tokens: texts that mean a missing value, in lower case.

    Raises:
        DataError: as :func:`encode_frame` and, for a plain array of numbers, :func:`encode_array`.
    """
    wanted = [column.name for column in columns]
    if not set(wanted) <= {*table.names, *absent} and table.values.shape[1] == len(wanted):
        if set(wanted) == {
            f"x{place}" for place in range(len(wanted))
        }:  # columns of an array have no names of their own
            cells = {new: table.cells[old] for new, old in zip(wanted, table.names, strict=True) if old in table.cells}
            table = replace(table, names=tuple(wanted), cells=cells)
    if not table.cells:
        refuse_lacking(table.names, wanted, absent, where)
        rows = np.full((len(table.values), len(wanted)), math.nan)
        for place, name in enumerate(wanted):
            if name in table.names:
                rows[:, place] = table.values[:, table.names.index(name)]
        refuse_infinite(rows, columns, where=where, first_row=table.first_row)
        refuse_codes(rows, columns, where=where, first_row=table.first_row)
        if missing == "refuse":
            refuse_missing(rows, columns, where=where, first_row=table.first_row)
        return torch.from_numpy(rows)
    names = list(table.names)
    frame = AnyFrame(names, len(table.values), lambda place: table.cells[names[place]])
    first_row = table.first_row
    return encode_frame(frame, columns, missing=missing, absent=absent, where=where, first_row=first_row, tokens=tokens)


def encode_array(
    values: Any,
    columns: Sequence[Column],
    *,
    missing: Missing = "refuse",
    where: str = "the array",
    codes: Codes = "exact",
) -> Tensor:
    """Rows ``(n, d)`` of a plain array in the order of a fit's columns, float64; columns of labels hold codes.

    An array of texts or objects is read cell by cell instead, as a frame without names: its columns hold labels.

    Args:
        values: array, masked array, tensor or nested list ``(n, d)``.
        columns: columns of the fit, in order.
        missing: whether missing values are refused or kept as NaN.
        where: name of the source, for messages.
        codes: "exact" for codes 0, 1, ... of labels; "cells" also for dequantised ones, within half a width of a code.

    Raises:
        DataError: rows of another width, complex numbers, infinite values, codes that stand for no label, or missing
            values where they are refused.

    >>> encode_array([[0.5, 1.0]], (Column("a"), Column("q", "categorical", 1.0, categories=("no", "yes"))))
    tensor([[0.5000, 1.0000]], dtype=torch.float64)
    """
    array = plain_array(values)
    if array.ndim != 2 or array.shape[1] != len(columns):
        raise DataError(f"{where}: expected rows of {len(columns)} columns, got shape {tuple(array.shape)}")
    if array.dtype.kind in "OUST":
        names = [column.name for column in columns]
        frame = AnyFrame(names, len(array), lambda place: array[:, place])
        return encode_frame(frame, columns, missing=missing, where=where, first_row=0)
    rows = array_numbers(array, where=where)
    refuse_infinite(rows, columns, where=where)
    refuse_codes(rows, columns, where=where, codes=codes)
    if missing == "refuse":
        refuse_missing(rows, columns, where=where, first_row=0)
    return torch.from_numpy(rows)


def refuse_infinite(rows: np.ndarray, columns: Sequence[Column], *, where: str = "", first_row: int = 0) -> None:
    """Refuses infinite values in rows ``(n, d)``; they are never missing values.

    Args:
        rows: numbers, with NaN for missing values.
        columns: columns of the fit, in order.
        where: name of the source, for messages.
        first_row: number that messages give to the first row.

    Raises:
        DataError: the place of the first infinite value.
    """
    is_bad = np.isinf(rows)
    if is_bad.any():
        row, column = np.argwhere(is_bad)[0]
        raise DataError(
            f"{where or 'the table'}: column {columns[column].name!r}, row {first_row + row} holds an infinite value, "
            "which is no missing value; correct it, or mark missing values with NaN"
        )


def refuse_codes(
    rows: np.ndarray,
    columns: Sequence[Column],
    *,
    where: str = "",
    first_row: int = 0,
    codes: Codes = "exact",
) -> None:
    """Refuses codes in rows ``(n, d)`` that stand for no label.

    Args:
        rows: numbers and codes, with NaN for missing values.
        columns: columns of the fit, in order.
        where: name of the source, for messages.
        first_row: number that messages give to the first row.
        codes: "exact" for codes 0, 1, ... of labels; "cells" also for dequantised ones, within half a width of a code.

    Raises:
        DataError: the place of the first such code, and the labels with their codes.
    """
    for place, column in enumerate(columns):
        if column.categories is None:
            continue
        given = rows[:, place]
        slack = 0.5 * column.width if codes == "cells" else 0.0
        is_bad = np.abs(given - column.on_support(given)) > slack  # false for NaN
        if is_bad.any():
            row = int(is_bad.argmax())
            shown = ", ".join(f"{code} is {label!r}" for code, label in enumerate(column.categories[:10]))
            raise DataError(
                f"{where or 'the table'}: column {column.name!r}, row {first_row + row}: {given[row]:g} is no code of a "
                f"label; {shown}{', ...' if len(column.categories) > 10 else ''}. Arrays and tensors hold codes; give a "
                "data frame to use labels. The density of dequantised values is that of distribution()"
            )


def encode_column(
    cells: Any, column: Column, *, where: str = "", first_row: int = 1, tokens: frozenset[str] = TOKENS
) -> np.ndarray:
    """One column of cells in the coding of a fit's column, float64 ``(n,)`` with NaN for missing values.

    Args:
        cells: cells of any form.
        column: column of the fit.
        where: name of the source, for messages.
        first_row: number that messages give to the first row.
        tokens: texts that mean a missing value, in lower case.

    Raises:
        DataError: a text in a column of numbers, an unknown label, or an infinite value.

    >>> encode_column(["yes", "no", ""], Column("q", "categorical", 1.0, categories=("no", "yes")))
    array([ 1.,  0., nan])
    """
    read = read_cells(cells, tokens=tokens)
    if column.categories is not None:
        values, _, _, problem = read.as_labels(column.categories)
        expected = "the fit has labels in this column"
    else:
        values, _, problem = read.as_numbers()
        is_boolean = column.storage == "bool"
        expected = f"the fit has {'true and false' if is_boolean else 'numbers'} in this column"
        if problem is None and is_boolean:
            is_other = ~np.isnan(values) & (values != 0) & (values != 1)
            if is_other.any():
                row = int(is_other.argmax())
                problem = Problem(row, f"{values[row]:g} is neither true nor false")
    if problem is not None:
        raise DataError(
            f"{where or 'the table'}: column {column.name!r}, row {first_row + problem.row}: {problem.words}; {expected}: "
            "correct the cell, or mark it as a missing value"
        )
    return values


def refuse_missing(values: np.ndarray, columns: Sequence[Column], *, where: str = "", first_row: int = 1) -> None:
    """Refuses missing values in coded rows ``(n, d)``.

    Args:
        values: rows with NaN for missing values.
        columns: columns of the fit, in order.
        where: name of the source, for messages.
        first_row: number that messages give to the first row.

    Raises:
        DataError: the number of missing values, and the place of the first one.
    """
    is_missing = np.isnan(values)
    if is_missing.any():
        row, column = np.argwhere(is_missing)[0]
        raise DataError(
            f"{where or 'the table'}: {int(is_missing.sum())} cells in {int(is_missing.any(1).sum())} rows are empty or "
            f"NaN, the first in column {columns[column].name!r}, row {first_row + row}. Complete rows are needed here: "
            "leave those rows out, or fill them first with impute; the command score takes --incomplete nan"
        )


def decode_rows(rows: Any, columns: Sequence[Column], *, index: Any = None) -> pd.DataFrame:
    """Coded rows as a pandas DataFrame with the columns' names, labels and types.

    Values of a column with a grid are put on it: codes become labels, whole numbers are whole, and booleans are True or
    False. NaN becomes the missing value of its type.

    Args:
        rows: rows ``(n, d)`` in data units, a tensor or an array.
        columns: columns of the fit, in order.
        index: index of the frame; 0, 1, ... when None.

    >>> columns = (Column("n", "integer", 1.0, storage="int64"), Column("q", "categorical", 1.0, categories=("no", "yes")))
    >>> decode_rows([[3.0, 1.0], [4.2, 0.0]], columns)
       n    q
    0  3  yes
    1  4   no
    """
    import pandas as pd

    values = torch.as_tensor(rows, dtype=torch.float64, device="cpu").numpy()
    parts = {column.name: decode_column(values[:, place], column) for place, column in enumerate(columns)}
    frame = pd.DataFrame(parts)
    return frame if index is None else frame.set_axis(index, axis=0)


def decode_column(values: np.ndarray, column: Column) -> pd.Series:
    """One column of coded values as a pandas Series with labels and types.

    Args:
        values: values or codes, float64 ``(n,)``, with NaN for missing values.
        column: column of the fit.

    >>> decode_column(np.array([1.0, math.nan]), Column("b", "binary", 1.0, storage="bool")).tolist()
    [True, <NA>]
    """
    import pandas as pd

    is_missing = np.isnan(values)
    storage, _, item = column.storage.partition("[")
    if column.categories is not None:
        codes = np.where(is_missing, -1, column.on_support(np.where(is_missing, 0, values))).astype(np.int64)
        kinds = _typed_labels(column.categories, item.rstrip("]") or storage)
        if storage in ("category", "ordered"):
            made = pd.Categorical.from_codes(codes.tolist(), categories=kinds, ordered=storage == "ordered")
            return pd.Series(made, name=column.name)
        return kinds.to_series(index=range(len(kinds)), name=column.name).reindex(codes).reset_index(drop=True)
    snapped = np.asarray(column.on_support(values))
    return pd.Series(_stored(snapped, is_missing, storage), name=column.name)


def _typed_labels(labels: Sequence[str], storage: str) -> pd.Index:
    """The labels in the type of the cells that they came from; texts where that type does not hold them all."""
    import pandas as pd

    try:
        if storage == "bool":
            return pd.Index([{"True": True, "False": False}[label] for label in labels])
        if storage.startswith(("int", "uint")):
            return pd.Index(np.array([int(label) for label in labels], dtype=storage))
        if storage.startswith("float"):
            return pd.Index(np.array([float(label) for label in labels], dtype=storage))
    except (KeyError, ValueError, OverflowError):
        pass
    return pd.Index(list(labels))


def _stored(values: np.ndarray, is_missing: np.ndarray, storage: str) -> Any:
    """Numbers in the type they are stored in, or in float64 where that type does not hold them."""
    seen = values[~is_missing]
    if storage == "bool" and np.isin(seen, (0, 1)).all():
        return _nullable(values, is_missing, "boolean") if is_missing.any() else values.astype(bool)
    if storage.startswith(("int", "uint")) and (seen == np.round(seen)).all():
        limits = np.iinfo(storage)
        fits = not len(seen) or (limits.min <= seen.min() and seen.max() <= limits.max)
        name = storage if fits else "int64"
        if not is_missing.any():
            return np.round(values).astype(name)
        return _nullable(values, is_missing, name.replace("uint", "UInt").replace("int", "Int"))
    if storage in ("float32", "float16"):
        with np.errstate(over="ignore"):
            short = values.astype(storage)
        if (np.isfinite(short) | is_missing).all():
            return short
    return values


def _nullable(values: np.ndarray, is_missing: np.ndarray, name: str) -> Any:
    import pandas as pd

    return pd.array([None if skip else value for skip, value in zip(is_missing, values, strict=True)], dtype=name)
