"""Frames of any library, and columns with some cells replaced."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr

from drl_density.datasets.tables.frames import as_frame, filled_column, is_frame, is_pandas, is_series, pandas_frame
from drl_density.errors import DataError


class Other:
    """A frame of another library that speaks Arrow's protocol alone."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def test_frames_of_any_library():
    table = pa.table({"a": [1, None], "b": ["x", "y"]})
    for source in (table, Other(table), table.to_pandas()):
        assert is_frame(source)
        frame = as_frame(source)
        assert (frame.names, frame.num_rows) == (["a", "b"], 2)
        assert pandas_frame(source)["a"].isna().tolist() == [False, True]
    series = pd.Series([1.0])
    assert (is_frame(series), is_series(series), is_pandas(series)) == (False, True, False)
    with pytest.raises(DataError, match="named columns, got list"):
        as_frame([1.0])
    with pytest.raises(DataError, match="columns with names"):
        as_frame(np.zeros((2, 2)))
    with pytest.raises(DataError, match="a ChunkedArray is one column"):
        as_frame(pa.chunked_array([[1.0, 2.0]]))
    for labelled in (xr.DataArray(np.zeros((2, 2))), xr.Dataset({"a": ("row", [1.0, 2.0])})):
        assert is_frame(labelled)
        with pytest.raises(DataError, match="no table by itself: give array.to_numpy"):
            as_frame(labelled)


FILLED = {
    "int": (pd.array([1, None], "Int64"), 4, "Int64", 4),
    "int for a fraction": (pd.array([1, None], "Int64"), 4.5, "Float64", 4.5),
    "float": (np.array([1.0, np.nan]), 4, "float64", 4.0),
    "float32": (np.array([1.0, np.nan], np.float32), 0.1, "float32", np.float32(0.1)),
    "boolean": (pd.array([True, None], "boolean"), False, "boolean", False),
    "object": (pd.Series([True, None], dtype=object), False, "object", False),
    "text": (pd.Series(["x", None], dtype="string"), "y", "string", "y"),
    "number as text": (pd.Series(["1", None], dtype="string"), 2.0, "string", "2"),
    "Arrow": (pd.Series([1, None], dtype="int64[pyarrow]"), 4, "int64[pyarrow]", 4),
    "Arrow for a fraction": (pd.Series([1, None], dtype="int64[pyarrow]"), 4.5, "double[pyarrow]", 4.5),
    "sparse": (pd.arrays.SparseArray([1.0, np.nan]), 4, "Sparse[float64, nan]", 4.0),
    "decimals": (pd.Series([Decimal("1.10"), None], dtype=object), 0.25, "object", Decimal("0.25")),
    "decimals and a whole number": (pd.Series([Decimal("1.1"), None], dtype=object), 3, "object", Decimal("3")),
    "no dates at all": (pd.Series([4.0, pd.NaT], dtype=object), 4, "object", 4.0),
    "category": (pd.Categorical([3, None, 12])[:2], "12", "category", 12),
    "new category": (pd.Categorical(["x", None]), "y", "category", "y"),
}


@pytest.mark.parametrize("name", FILLED)
def test_a_column_keeps_its_type_where_that_holds_the_values(name):
    column, value, dtype, expected = FILLED[name]
    found = filled_column(pd.Series(column, name="c"), np.array([False, True]), pd.Series([value]))
    assert str(found.dtype) == dtype
    assert found.iloc[0] == pd.Series(column).iloc[0]
    assert found.iloc[1] == expected


def test_a_column_of_missing_dates_takes_numbers():
    found = filled_column(pd.Series([pd.NaT, pd.NaT]), np.array([False, True]), pd.Series([4.5]))
    assert (found.isna().tolist(), found.iloc[1]) == ([True, False], 4.5)
