"""Frames of any library seen in one way: names, columns and the number of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from drl_density.errors import DataError


class AnyFrame(NamedTuple):
    """A frame of any library.

    Attributes:
        names: names of the columns as they are, in order.
        num_rows: number of rows.
        column: gives the cells of a column by its place.
    """

    names: list[Any]
    num_rows: int
    column: Callable[[int], Any]


def is_pandas(source: Any) -> bool:
    """Whether an object is a pandas DataFrame."""
    return (
        type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "iloc") and hasattr(source, "columns")
    )


def is_frame(source: Any) -> bool:
    """Whether an object has named columns of cells: a frame of any library, or an array of records.

    >>> is_frame(np.zeros(2, dtype=[("a", float)])), is_frame(np.zeros((2, 1)))
    (True, False)
    """
    if isinstance(source, AnyFrame):
        return True
    if isinstance(source, np.ndarray):
        return source.dtype.names is not None
    return is_pandas(source) or any(hasattr(source, name) for name in ("__arrow_c_stream__", "__dataframe__"))


def as_frame(source: Any) -> AnyFrame:
    """The names and columns of a frame.

    Args:
        source: a pandas DataFrame, an Arrow table, a frame of a library that speaks Arrow's or the data frame protocol
            (such as Polars), or a NumPy array of records.

    Raises:
        DataError: an object without named columns.

    >>> as_frame(np.array([(1, 2.0)], dtype=[("a", int), ("b", float)])).names
    ['a', 'b']
    """
    if isinstance(source, AnyFrame):
        return source
    if isinstance(source, np.ndarray):
        if source.dtype.names is None:
            raise DataError(f"expected columns with names, got an array of {source.dtype}")
        names = list(source.dtype.names)
        flat = source.reshape(-1)
        return AnyFrame(names, len(flat), lambda place: flat[names[place]])
    if is_pandas(source):
        return AnyFrame(list(source.columns), len(source), lambda place: source.iloc[:, place])
    if hasattr(source, "__arrow_c_stream__"):
        try:
            import pyarrow as pa
        except ImportError as error:
            raise DataError(
                f"reading a {type(source).__name__} needs pyarrow: pip install 'drl-density[tables]', or give a pandas frame"
            ) from error
        table = source if isinstance(source, pa.Table) else pa.table(source)
        return AnyFrame(list(table.column_names), table.num_rows, table.column)
    if hasattr(source, "__dataframe__"):
        from pandas.api.interchange import from_dataframe

        return as_frame(from_dataframe(source))
    raise DataError(f"expected a frame with named columns, got {type(source).__name__}")
