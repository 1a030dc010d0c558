"""The same cells held in every way: columns of 1, 3 and missing values, of true and false, and with an infinite value."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import torch


def with_nan(values, dtype=np.float64):
    return np.array([np.nan if value is None else value for value in values], dtype=dtype)


def masked(values, fill):
    return np.ma.masked_array([fill if value is None else value for value in values], mask=[v is None for v in values])


def texts(values, missing=None):
    return [missing if value is None else str(value) for value in values]


HOLDING_NUMBERS = {
    "floats": with_nan,
    "float32": lambda v: with_nan(v, np.float32),
    "float16": lambda v: with_nan(v, np.float16),
    "byte-swapped": lambda v: with_nan(v, ">f8"),
    "reversed": lambda v: with_nan(v[::-1])[::-1],
    "strided": lambda v: np.repeat(with_nan(v), 2)[::2],
    "tensor": lambda v: torch.as_tensor(with_nan(v)),
    "bfloat16 tensor": lambda v: torch.as_tensor(with_nan(v)).bfloat16(),
    "masked floats": lambda v: masked(v, 1e20),
    "masked infinity": lambda v: masked(v, np.inf),
    "masked integers": lambda v: masked(v, 2**60),
    "Int64": lambda v: pd.array(v, dtype="Int64"),
    "UInt8": lambda v: pd.array(v, dtype="UInt8"),
    "Float64": lambda v: pd.array(v, dtype="Float64"),
    "text": texts,
    "text with N/A": lambda v: texts(v, " N/A "),
    "text with a question mark": lambda v: np.array(texts(v, "?")),
    "bytes": lambda v: np.array([b"" if value is None else str(value).encode() for value in v]),
    "pandas text": lambda v: pd.Series(texts(v), dtype="string"),
    "objects with pd.NA": lambda v: pd.Series([pd.NA if value is None else value for value in v], dtype=object),
    "objects with NaT": lambda v: pd.Series([pd.NaT if value is None else value for value in v], dtype=object),
    "objects with NaN": lambda v: [float("nan") if value is None else value for value in v],
    "decimals": lambda v: [Decimal("NaN") if value is None else Decimal(value) for value in v],
    "mixed": lambda v: [None if value is None else str(value) if i % 2 else value for i, value in enumerate(v)],
    "Arrow integers": pa.array,
    "Arrow chunks": lambda v: pa.chunked_array([pa.array(v[:2]), pa.array(v[2:], type=pa.int64())]),
    "Arrow decimals": lambda v: pa.array(v, type=pa.decimal128(5, 2)),
    "Arrow dictionary": lambda v: pa.array(texts(v)).dictionary_encode(),
    "int64[pyarrow]": lambda v: pd.Series(v, dtype="int64[pyarrow]"),
    "string[pyarrow]": lambda v: pd.Series(texts(v), dtype="string[pyarrow]"),
    "sparse": lambda v: pd.Series(pd.arrays.SparseArray(with_nan(v))),
    "categories of whole numbers": pd.Categorical,
    "categories of floats": lambda v: pd.Categorical(with_nan(v)),
    "categories of texts": lambda v: pd.Categorical(texts(v)),
}
"""By name, a function from a list of whole numbers and None to a column that holds them."""

HOLDING_TRUTH = {
    "booleans": lambda v: np.array([bool(value) for value in v]),
    "boolean": lambda v: pd.array([bool(value) for value in v], dtype="boolean"),
    "bool[pyarrow]": lambda v: pd.Series([bool(value) for value in v], dtype="bool[pyarrow]"),
    "objects": lambda v: pd.Series([bool(value) for value in v], dtype=object),
    "texts": lambda v: [str(bool(value)) for value in v],
    "upper case": lambda v: [str(bool(value)).upper() for value in v],
    "Arrow": lambda v: pa.array([bool(value) for value in v]),
    "masked": lambda v: np.ma.masked_array([bool(value) for value in v], mask=False),
}
"""By name, a function from a list of 0 and 1 to a column of true and false."""

INFINITE = {
    "floats": np.array([1.0, np.inf, 3.0]),
    "minus": np.array([1.0, -np.inf, 3.0]),
    "tensor": torch.tensor([1.0, torch.inf, 3.0]),
    "masked elsewhere": np.ma.masked_array([1.0, np.inf, 3.0], mask=[True, False, False]),
    "Float64": pd.array([1.0, np.inf, 3.0], dtype="Float64"),
    "text": ["1", "inf", "3"],
    "a number too large": ["1", "1e999", "3"],
    "objects": [1, float("inf"), None],
    "decimals": [Decimal(1), Decimal("Infinity"), Decimal(3)],
    "double[pyarrow]": pd.Series([1.0, np.inf, 3.0], dtype="double[pyarrow]"),
    "categories": pd.Categorical([1.0, np.inf, 3.0]),
}
"""Columns with an infinite value in the second row."""
