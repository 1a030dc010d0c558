"""Frames of any library seen in one way: names, columns and the number of rows."""

from __future__ import annotations

import decimal
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from drl_density.datasets.tables.cells import plain_arrow
from drl_density.datasets.tables.meaning import label_of, meaning_of
from drl_density.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_PROTOCOLS = ("__arrow_c_stream__", "__dataframe__")
"""Methods by which frames of other libraries are read."""


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
    return type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "iloc") and source.ndim == 2


def is_series(source: Any) -> bool:
    """Whether an object is a pandas Series."""
    return type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "iloc") and source.ndim == 1


def is_frame(source: Any) -> bool:
    """Whether an object has named columns of cells: a frame of any library, or an array of records.

    >>> is_frame(np.zeros(2, dtype=[("a", float)])), is_frame(np.zeros((2, 1)))
    (True, False)
    """
    if isinstance(source, AnyFrame):
        return True
    if isinstance(source, np.ndarray):
        return source.dtype.names is not None
    if is_series(source) or isinstance(source, Tensor):
        return False
    is_labelled = type(source).__module__.partition(".")[0] == "xarray"  # refused with advice
    return is_pandas(source) or is_labelled or any(map(functools.partial(hasattr, source), _PROTOCOLS))


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
    if type(source).__module__.partition(".")[0] == "xarray":
        raise DataError(
            f"an xarray {type(source).__name__} is no table by itself: give array.to_numpy() for rows by columns, and "
            "array.to_pandas() or dataset.to_dataframe() where the columns have names"
        )
    if hasattr(source, "__arrow_c_stream__"):
        try:
            import pyarrow as pa
        except ImportError as error:
            raise DataError(
                f"reading a {type(source).__name__} needs pyarrow: pip install 'drl-density[tables]', or give a pandas frame"
            ) from error
        try:
            table = source if isinstance(source, pa.Table) else pa.table(source)
        except pa.ArrowInvalid as error:
            raise DataError(f"a {type(source).__name__} is one column: give a table or a frame of all columns") from error
        return AnyFrame(list(table.column_names), table.num_rows, table.column)
    if type(source).__module__.partition(".")[0] == "dask":
        raise DataError(
            "a Dask DataFrame has no rows before it is computed; score and impute take it as it is, and elsewhere give "
            "frame.compute(), or call this for each partition with frame.map_partitions"
        )
    if hasattr(source, "__dataframe__"):
        from pandas.api.interchange import from_dataframe

        return as_frame(from_dataframe(source))
    raise DataError(f"expected a frame with named columns, got {type(source).__name__}")


def pandas_frame(source: Any) -> pd.DataFrame:
    """A frame of any library as a pandas DataFrame, whole numbers with missing values included.

    Args:
        source: frame of any library that :func:`as_frame` reads.

    >>> pandas_frame(np.array([(1, 2.0)], dtype=[("a", int), ("b", float)])).shape
    (1, 2)
    """
    import pandas as pd

    if is_pandas(source):
        return source
    frame = as_frame(source)
    parts = {}
    for place, name in enumerate(frame.names):
        cells = frame.column(place)
        is_arrow = type(cells).__module__.startswith("pyarrow")
        cells = plain_arrow(cells) if is_arrow else cells
        parts[name] = pd.Series(cells, dtype=pd.ArrowDtype(cells.type)) if is_arrow else pd.Series(cells)
    return pd.DataFrame(parts)


def filled_column(column: pd.Series, is_filled: np.ndarray, values: pd.Series) -> pd.Series:
    """A column with some cells replaced by values, in its own type where that holds them.

    Args:
        column: pandas Series ``(n,)``.
        is_filled: cells to replace, boolean ``(n,)``.
        values: new values, one for each cell to replace.

    >>> import pandas as pd
    >>> filled_column(pd.Series([1, None], dtype="Int64"), np.array([False, True]), pd.Series([4])).tolist()
    [1, 4]
    """
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        return _filled_categories(column, is_filled, values)
    if isinstance(column.dtype, pd.SparseDtype):  # which takes no new values
        dense = filled_column(column.sparse.to_dense(), is_filled, values)
        return dense.astype(pd.SparseDtype(dense.dtype, column.dtype.fill_value))
    cells = values.astype(object).tolist()
    if pd.api.types.is_string_dtype(column.dtype) and not pd.api.types.is_object_dtype(column.dtype):
        cells = [cell if isinstance(cell, str) else label_of(cell) for cell in cells]
    if _are_decimals(column.loc[~is_filled]):
        cells = [decimal.Decimal(repr(cell)) if type(cell) in (int, float) else cell for cell in cells]
    for dtype in (column.dtype, _wider(column.dtype), np.dtype(object)):
        try:
            new = pd.Series(cells, dtype=dtype)
            array = column.astype(dtype).array.copy()
        except (TypeError, ValueError, OverflowError, ArithmeticError):  # such as a column of NaT alone, for numbers
            continue
        if pd.api.types.is_object_dtype(dtype) or _keeps(new, cells):
            array[is_filled] = new.array
            return pd.Series(array, index=column.index, name=column.name)
    raise DataError(f"column {column.name!r} of type {column.dtype} cannot hold {cells[:3]}")  # objects hold anything


def _are_decimals(column: pd.Series) -> bool:
    """Whether all cells of a column of objects are Python's decimal numbers, or missing."""
    import pandas as pd

    if not pd.api.types.is_object_dtype(column.dtype):
        return False
    kinds = {type(cell) for cell in column.dropna()}
    return kinds == {decimal.Decimal}


def _wider(dtype: Any) -> Any:
    """A floating-point type in the place of a type of whole numbers or booleans."""
    import pandas as pd

    if isinstance(dtype, pd.ArrowDtype):
        return pd.api.types.pandas_dtype("double[pyarrow]")
    is_numpy = isinstance(dtype, np.dtype)
    return np.dtype(np.float64) if is_numpy or not pd.api.types.is_numeric_dtype(dtype) else pd.Float64Dtype()


def _keeps(new: pd.Series, cells: list[Any]) -> bool:
    """Whether values survived their conversion; floating-point types may round them."""
    import pandas as pd

    if new.isna().any():
        return False
    if pd.api.types.is_float_dtype(new.dtype):
        return bool(np.isfinite(new.to_numpy(dtype=np.float64)).all())
    return all(one == other for one, other in zip(new.tolist(), cells, strict=True))


def _filled_categories(column: pd.Series, is_filled: np.ndarray, values: pd.Series) -> pd.Series:
    """A categorical column with some cells replaced; a label of equal meaning is the category, a new one is added."""
    import pandas as pd

    known = {meaning_of(label_of(value)): value for value in column.cat.categories}
    cells = values.astype(object).tolist()
    chosen = [known.get(meaning_of(label_of(cell)), cell) for cell in cells]
    added = list(dict.fromkeys(cell for cell in chosen if cell not in set(column.cat.categories)))
    widened = column.cat.add_categories(added) if added else column
    array = widened.array.copy()
    array[is_filled] = pd.Categorical(chosen, dtype=widened.dtype)
    return pd.Series(array, index=column.index, name=column.name)
