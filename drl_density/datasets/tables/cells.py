"""The one conversion of a column of cells: numbers, labels, missing values and how a value is written back.

Every table comes through here, whatever it is made of: NumPy arrays of any type, masked arrays, tensors, pandas columns
(nullable, Arrow, categorical, text, objects), Arrow arrays and lists. A column is read in two steps. :func:`read_cells`
finds what the cells are, and :class:`Cells` what they mean as numbers and as labels.
"""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from drl_density.datasets.column import LARGEST_EXACT
from drl_density.datasets.tables.meaning import TOKENS, Cells, Kind, Problem, label_of, number_labels
from drl_density.errors import DataError

MOST_CATEGORIES = 20
"""Greatest number of distinct texts that count as labels: our own choice."""


class ColumnValues(NamedTuple):
    """What a column means in a new table, where no fit rules.

    Attributes:
        values: float64 ``(n,)``: numbers, or codes of labels; NaN for missing values and for cells that have no meaning.
        labels: labels behind the codes, or None for numbers.
        storage: type in which a value is written back.
        problem: the first cell that cannot be used, or None.
        note: a guess that the user should be aware of, or "".
    """

    values: np.ndarray
    labels: tuple[str, ...] | None
    storage: str
    problem: Problem | None
    note: str = ""


def guess_column(cells: Cells) -> ColumnValues:
    """Decides whether a column of a new table holds numbers or labels.

    Text that parses throughout is numbers, or yes and no. Other text, and a categorical column, is labels if it has at
    most 20 distinct values and at most half as many as rows; else its first text is a problem.

    >>> guess_column(read_cells(["red", "blue", None, "red"])).values
    array([ 1.,  0., nan,  1.])
    """
    found = cells.as_numbers()
    if cells.order is None and (found.problem is None or not found.problem.is_text or cells.kind == "dates"):
        is_guess = cells.kind == "text" and found.problem is None and not np.isnan(found.values).all()
        note = "its texts are all read as numbers" if is_guess and found.storage != "bool" else ""
        return ColumnValues(found.values, None, found.storage, found.problem, note)
    named = cells.as_labels()
    count = len(named.labels)
    if count <= MOST_CATEGORIES and count <= max(2, 0.5 * len(cells)):
        return ColumnValues(named.codes, named.labels, named.storage, named.problem)
    if found.problem is None:
        note = f"its {count} categories are all numbers, too many for labels, and are read as numbers"
        return ColumnValues(found.values, None, found.storage, None, note)
    return ColumnValues(found.values, None, found.storage, found.problem)


def read_cells(values: Any, *, tokens: frozenset[str] = TOKENS) -> Cells:
    """Reads one column of cells, whatever holds them.

    Args:
        values: one-dimensional array, masked array, tensor, pandas Series or Index, Arrow array, or list; cells that were
            read before stay as they are.
        tokens: texts that mean a missing value, in lower case.

    >>> read_cells(np.ma.masked_array([1.0, 1e20], mask=[False, True])).is_null
    array([False,  True])
    """
    return values if isinstance(values, Cells) else replace(_read(values), tokens=tokens)


def plain_array(values: Any) -> np.ndarray:
    """An array, tensor or nested list as a NumPy array of any type, without copying where possible; masks stay.

    Raises:
        DataError: lists of unequal lengths, rows with names in a list, or an object that holds no cells.
    """
    if isinstance(values, Tensor):
        if values.is_nested or type(values) is Tensor and values.is_meta:  # a subclass may know where its numbers are
            raise DataError("expected a tensor of numbers in rows of one length, got a nested tensor or one without data")
        tensor = values.detach().cpu()
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        tensor = (tensor if tensor.layout == torch.strided else tensor.to_dense()).resolve_neg().resolve_conj()
        is_short = tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64)
        return (tensor.float() if is_short else tensor).numpy()  # NumPy has no types of bfloat16 and of 8 bits
    if isinstance(values, np.ndarray):  # a matrix has no columns of one dimension
        return np.asarray(values) if isinstance(values, np.matrix) else values
    if isinstance(values, str | bytes | dict | set) or values is None:
        raise DataError(
            f"expected rows of numbers, got {type(values).__name__} {str(values)[:60]!r}; give a tensor, an array, or a "
            "data frame, such as pandas.DataFrame([row]) for one row by names"
        )
    if isinstance(values, list | tuple):
        named = next((type(row).__name__ for row in values if _has_names(row)), None)
        if named is not None:
            raise DataError(
                f"expected rows of numbers, got a {type(values).__name__} of {named}, whose names would be lost: give "
                "pandas.DataFrame(rows), which finds the columns by name, or rows without names in the order of the columns"
            )
        values = [plain_array(row) if isinstance(row, Tensor) else row for row in values]
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise DataError(f"expected rows of numbers, got {type(values).__name__} ({error})") from error
    if array.dtype.kind in "US":  # mixed lists: NumPy would have written every number as text
        array = np.asarray(values, dtype=object)
    return array


def _has_names(row: Any) -> bool:
    """Whether a row names its values: a dictionary, a named tuple, a record, or a pandas Series with an index of names."""
    if isinstance(row, dict) or (isinstance(row, tuple) and hasattr(row, "_fields")):
        return True
    if isinstance(row, np.void):
        return row.dtype.names is not None
    if isinstance(row, list | tuple | np.ndarray | Tensor) or not hasattr(row, "iloc"):
        return False
    return list(row.index) != list(range(len(row)))


def array_numbers(array: np.ndarray, *, where: str = "the array") -> np.ndarray:
    """A new float64 array of the shape of ``array``, with NaN for masked values.

    Raises:
        DataError: complex numbers, dates or records, or whole numbers beyond 2^53.

    >>> array_numbers(np.ma.masked_array([[1, 2]], mask=[[False, True]]))
    array([[ 1., nan]])
    """
    found = read_cells(array.reshape(-1)).as_numbers()
    if found.problem is not None and "infinite" not in found.problem.words:
        place = np.unravel_index(found.problem.row, array.shape)
        at = f"row {place[0]}" if len(place) else "its value"
        raise DataError(f"{where}: {at}: {found.problem.words}; expected real numbers of type float, int or bool")
    return found.values.reshape(array.shape)


def stored_as(dtype: np.dtype[Any]) -> str:
    """The type in which a value of an array of numbers is written back.

    >>> stored_as(np.dtype(">i4")), stored_as(np.dtype(np.longdouble))
    ('int32', 'float64')
    """
    if dtype.kind == "f":
        return dtype.name if dtype.name in ("float16", "float32") else "float64"
    return dtype.name if dtype.kind in "iub" else "float64"


def _read(values: Any) -> Cells:
    if isinstance(values, Tensor):
        return _of_array(plain_array(values))
    if isinstance(values, np.ma.MaskedArray):
        return _of_array(np.asarray(values.data), np.ma.getmaskarray(values))
    if type(values).__module__.startswith("pyarrow"):
        return _of_arrow(values)
    if hasattr(values, "dtype") and not isinstance(values.dtype, np.dtype):
        import pandas as pd

        return _of_series(pd.Series(values))
    if hasattr(values, "dtype") and hasattr(values, "__array__"):
        return _of_array(np.asarray(values))
    cells = list(values)
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return _of_array(array)


def _of_arrow(values: Any) -> Cells:
    """An Arrow array, whole or in chunks."""
    import pandas as pd

    values = plain_arrow(values)
    try:
        series = pd.Series(values, dtype=pd.ArrowDtype(values.type))
    except (NotImplementedError, TypeError, ValueError):  # no type of pandas' own; what pyarrow makes of its cells
        series = pd.Series(values.to_pylist(), dtype=object)
    return _of_series(series)


def plain_arrow(values: Any) -> Any:
    """An Arrow array of a type that pandas holds: without run ends, views, extensions, and nulls among the labels.

    Args:
        values: Arrow array, whole or in chunks.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values.type, pa.BaseExtensionType):
        values = values.cast(values.type.storage_type)
    if isinstance(values.type, pa.RunEndEncodedType):
        values = pc.call_function("run_end_decode", [values])
    if pa.types.is_dictionary(values.type):
        parts = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
        if any(part.dictionary.null_count for part in parts):
            values = values.cast(values.type.value_type).dictionary_encode()
    for name, plain in (("string_view", pa.large_string()), ("binary_view", pa.large_binary())):
        if str(values.type) == name:
            values = values.cast(plain)
    return values


def _of_series(series: Any) -> Cells:
    """A pandas column of an extension type."""
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.ArrowDtype):
        import pyarrow as pa

        if pa.types.is_dictionary(dtype.pyarrow_dtype):
            return _of_series(plain_arrow(series.array.__arrow_array__()).to_pandas())
        if pa.types.is_string(dtype.pyarrow_dtype) or pa.types.is_large_string(dtype.pyarrow_dtype):
            return _of_text(series)
    if isinstance(dtype, pd.StringDtype):
        return _of_text(series)
    is_null = np.asarray(series.isna())
    if isinstance(dtype, pd.CategoricalDtype):
        return _of_categories(series, is_null)
    if isinstance(dtype, pd.SparseDtype):
        return _of_array(np.asarray(series))
    if pd.api.types.is_bool_dtype(dtype):
        return _of_array(series.to_numpy(dtype=bool, na_value=False), is_null)
    if pd.api.types.is_integer_dtype(dtype):
        unsigned = pd.api.types.is_unsigned_integer_dtype(dtype)
        found = _of_array(series.to_numpy(dtype=np.uint64 if unsigned else np.int64, na_value=0), is_null)
        return replace(found, storage=np.dtype(f"{'u' * unsigned}int{8 * dtype.itemsize}").name)
    if pd.api.types.is_float_dtype(dtype):
        return _of_array(series.to_numpy(dtype=getattr(dtype, "numpy_dtype", np.float64), na_value=math.nan), is_null)
    return _of_array(series.to_numpy(dtype=object, na_value=None), is_null)


def _of_text(series: Any) -> Cells:
    is_null = np.asarray(series.isna())
    return Cells("text", series.to_numpy(dtype=object, na_value=None), is_null, "string")


def _of_categories(series: Any, is_null: np.ndarray) -> Cells:
    """A categorical column: the cells of its categories, each in its place."""
    levels = _read(series.cat.categories)
    labels = (
        [label_of(value) for value in levels.values.tolist()]
        if levels.kind != "numbers"
        else number_labels(levels.values)
    )
    codes = np.asarray(series.cat.codes, dtype=np.int64)
    empty = not len(levels)
    values = np.full(len(codes), None, dtype=object) if empty else levels.values[np.where(codes < 0, 0, codes)]
    kind: Kind = "text" if empty else levels.kind
    problem = None
    if levels.problem is not None and not is_null.all():
        problem = Problem(int((~is_null).argmax()), levels.problem.words)
    if kind == "dates":  # written back by their label
        kind, values = "text", np.array([*labels, ""], dtype=object)[codes]
    storage = "string" if kind == "text" else levels.storage
    order = tuple(dict.fromkeys(label.strip() for label in labels))
    return Cells(kind, values, is_null, storage, order, bool(series.cat.ordered), problem)


def _of_array(array: np.ndarray, is_null: np.ndarray | None = None) -> Cells:
    """A NumPy array of any type."""
    if array.ndim > 1:
        problem = Problem(0, f"each cell holds an array of shape {array.shape[1:]}, not a number")
        return Cells("unusable", np.empty(len(array), object), np.zeros(len(array), bool), "object", problem=problem)
    is_null = np.zeros(len(array), dtype=bool) if is_null is None else is_null
    kind, name = array.dtype.kind, array.dtype.name
    if kind == "b":
        return Cells("booleans", array, is_null, "bool")
    if kind in "iu":
        return Cells("numbers", array, is_null, name)
    if kind == "f" or name == "bfloat16":
        array = array.astype(np.float32) if name == "bfloat16" else array
        return Cells("numbers", array, is_null | np.isnan(array), stored_as(array.dtype))
    if kind in "mM":
        return Cells("dates", array, is_null | np.isnat(array), name)
    if kind in "SUT":
        return _of_objects(array.astype(object), is_null)
    if kind == "O":
        return _of_objects(array, is_null)
    what = "complex numbers" if kind == "c" else "records"
    problem = None if is_null.all() else Problem(int((~is_null).argmax()), f"the column holds {what}, not real numbers")
    return Cells("unusable", array, is_null, name, problem=problem)


def _of_objects(array: np.ndarray, is_null: np.ndarray) -> Cells:
    """An array of Python objects, by the families of types in it."""
    import pandas as pd

    array = np.array([_plain(cell) for cell in array] + [None], dtype=object)[:-1]
    is_null = is_null | np.asarray(pd.isna(array), dtype=bool)
    families = {
        kind: _family(kind) for kind in {type(cell) for cell, skip in zip(array, is_null, strict=True) if not skip}
    }
    present = set(families.values())
    if not present:
        return Cells("text", array, is_null, "float64")
    if present == {"booleans"}:
        return Cells("booleans", np.where(is_null, False, array).astype(bool), is_null, "bool")
    if present <= {"whole", "real"}:
        values = np.where(is_null, 0, array)
        is_long = any(isinstance(cell, decimal.Decimal) and abs(cell) >= LARGEST_EXACT for cell in values)
        if present == {"real"} and not is_long:  # decimal numbers that float64 may round stay as they are
            values = np.array([float(cell) for cell in values])
        return Cells("numbers", values, is_null, "int64" if present == {"whole"} else "float64")
    first = {
        name: next(i for i, c in enumerate(array) if not is_null[i] and families[type(c)] == name) for name in present
    }
    problem = None
    if "other" in present:
        row = first["other"]
        problem = Problem(row, f"the cell is of type {type(array[row]).__name__}; expected a number or a text")
    elif "text" in present:
        return Cells(
            "text",
            np.array([None if skip else label_of(cell) for cell, skip in zip(array, is_null, strict=True)], object),
            is_null,
            "string",
        )
    elif "booleans" in present and "dates" not in present:
        problem = Problem(first["booleans"], f"{array[first['booleans']]} is among numbers; write 0 and 1 instead")
    if problem is not None:
        return Cells("unusable", array, is_null, "object", problem=problem)
    return Cells("dates", array, is_null, "object")


def _plain(cell: Any) -> Any:
    """A cell without its wrapping: masked is None, bytes are text, and an array of no dimension is its value."""
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:  # no text: two of them would become one if the bad bytes were replaced
            return cell
    if isinstance(cell, str) and type(cell) is not str:  # an enumeration of texts prints its name, and equals its text
        return str.__str__(cell)
    if isinstance(cell, decimal.Decimal) and cell.is_snan():
        return None
    if cell is np.ma.masked:
        return None
    if isinstance(cell, np.ndarray | Tensor) and cell.ndim == 0:
        return cell.item()
    return cell


def _family(kind: type) -> str:
    """The family of a type of cells: "booleans", "whole", "real", "text", "dates" or "other"."""
    if issubclass(kind, bool | np.bool_):
        return "booleans"
    if issubclass(kind, str):
        return "text"
    if issubclass(kind, datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64):
        return "dates"
    if kind.__module__.startswith("pandas") and kind.__name__ in ("Period", "Interval"):
        return "dates" if kind.__name__ == "Period" else "text"
    if issubclass(kind, numbers.Integral):
        return "whole"
    return "real" if issubclass(kind, numbers.Real | decimal.Decimal) else "other"
