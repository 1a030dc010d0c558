import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from drl_density.datasets.tables.cells import read_cells

MISSING_SECOND = {
    "float array": np.array([1.0, np.nan, 3.0]),
    "float16": np.array([1.0, np.nan, 3.0], dtype=np.float16),
    "byte-swapped": np.array([1.0, np.nan, 3.0]).astype(">f8"),
    "reversed": np.array([3.0, np.nan, 1.0])[::-1],
    "bfloat16 tensor": torch.tensor([1.0, torch.nan, 3.0], dtype=torch.bfloat16),
    "masked floats": np.ma.masked_array([1.0, 1e20, 3.0], mask=[0, 1, 0]),
    "masked infinity": np.ma.masked_array([1.0, np.inf, 3.0], mask=[0, 1, 0]),
    "masked integers": np.ma.masked_array([1, 2**60, 3], mask=[0, 1, 0]),
    "nullable Int64": pd.array([1, None, 3], dtype="Int64"),
    "nullable UInt8": pd.array([1, None, 3], dtype="UInt8"),
    "nullable Float64": pd.array([1.0, None, 3.0], dtype="Float64"),
    "pandas text": pd.Series(["1", None, "3"], dtype="string"),
    "objects with pd.NA": pd.Series([1, pd.NA, 3], dtype=object),
    "objects with None": [1, None, 3.0],
    "objects with NaT": pd.Series([1, pd.NaT, 3], dtype=object),
    "text with a token": ["1", " N/A ", "3"],
    "bytes": np.array([b"1", b"", b"3"]),
    "strings": np.array(["1", "?", "3"]),
    "decimals": [__import__("decimal").Decimal(1), __import__("decimal").Decimal("NaN"), 3],
    "Arrow integers": pa.array([1, None, 3]),
    "Arrow chunks": pa.chunked_array([pa.array([1, None]), pa.array([3])]),
    "Arrow decimals": pa.array([1, None, 3], type=pa.decimal128(5, 2)),
    "Arrow dtype": pd.Series([1, None, 3], dtype="int64[pyarrow]"),
    "Arrow text dtype": pd.Series(["1", None, "3"], dtype="string[pyarrow]"),
    "sparse": pd.Series(pd.arrays.SparseArray([1.0, np.nan, 3.0])),
    "categories of numbers": pd.Categorical([1, None, 3]),
    "Arrow dictionary": pa.array(["1", None, "3"]).dictionary_encode(),
}


@pytest.mark.parametrize("name", MISSING_SECOND)
def test_a_missing_value_is_missing_however_it_is_held(name):
    cells = read_cells(MISSING_SECOND[name])
    found = cells.as_numbers()
    np.testing.assert_array_equal(found.values, [1.0, np.nan, 3.0])
    assert found.problem is None
    assert cells.is_missing.tolist() == [False, True, False]
    labels = cells.as_labels()
    np.testing.assert_array_equal(labels.codes, [0.0, np.nan, 1.0])
    assert labels.labels == ("1", "3")
