"""Known tables held in random ways (types, marks of missing values, containers, files), and what a reader must find."""

from __future__ import annotations

import io
import math
import tempfile
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from hypothesis import strategies as st

from drl_density.datasets import Column, read_rows
from drl_density.datasets.tables.coding import decode_rows
from drl_density.datasets.tables.frames import filled_column
from drl_density.datasets.tables.reading import MISSING_TOKENS
from drl_density.datasets.tables.sources import read_table
from drl_density.datasets.tables.writing import TableWriter

KINDS = ("whole", "real", "truth", "word", "numeral")
WORDS = (
    st.text("abcxyzäÖß ,;|\t\"'#%-\n😀é中", min_size=1, max_size=5)
    .map(lambda word: unicodedata.normalize("NFC", word.strip()))
    .filter(lambda word: word.lower() not in MISSING_TOKENS and word.lower() not in ("true", "false"))
)
NUMERALS = ("3", "12", "-7", "2.5", "100")
"""Labels that are numbers; their alphabetical order is none by value."""
MARKS = {
    "None": None,
    "NaN": math.nan,
    "pd.NA": pd.NA,
    "NaT": pd.NaT,
    "decimal": Decimal("NaN"),
    "masked": np.ma.masked,
    "float32": np.float32(math.nan),
}
CARRIERS = {
    "whole": (
        *("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "Int8", "Int64", "UInt8", "UInt64"),
        *("int16[pyarrow]", "int64[pyarrow]", "uint8[pyarrow]", "decimals", "Arrow decimals", "run ends"),
    ),
    "real": ("float16", "float32", "float64", ">f8", "Float32", "Float64", "float[pyarrow]", "double[pyarrow]", "sparse"),
    "truth": ("bool", "boolean", "bool[pyarrow]", "upper case", "lower case"),
    "word": (
        *("string", "str", "string[pyarrow]", "large_string", "string_view", "dictionary", "bytes", "decomposed", "spaces"),
    ),
    "numeral": ("float64", "Float64", "double[pyarrow]", "string", "bytes", "spaces", "dictionary", "decimals"),
}
ALWAYS = ("objects", "text", "category", "ordered", "masked")
"""Ways to hold a column of any kind."""


@dataclass(frozen=True)
class Held:
    """A table, what holds it, and what is to be found in it.

    Attributes:
        source: frame, table, array of records, or path.
        columns: columns of a fit.
        rows: expected rows ``(n, d)``, with NaN for missing values.
        carriers: how each column is held.
        container: what holds the columns.
    """

    source: Any
    columns: tuple[Column, ...]
    rows: np.ndarray
    carriers: tuple[str, ...]
    container: str


def cells_of(draw: Any, kind: str, carrier: str, num_rows: int) -> tuple[list[Any], Column]:
    """Cells of one kind that a carrier holds without loss, None for a missing one; and the column of a fit."""
    if kind == "whole":
        small = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1)}
        name = carrier.partition("[")[0].lower()
        low, high = small.get(name, (0, 2**31) if name.startswith("u") else (-(2**31), 2**31 - 1))
        if name in ("int64", "decimals", "objects", "text"):
            low, high = -(2**53) + 1, 2**53 - 1
        values, column = st.integers(low, high), Column("", "integer", 1.0, storage="int64")
    elif kind == "real":
        width = {"float16": 16, "float32": 32, "Float32": 32, "float[pyarrow]": 32}.get(carrier, 64)
        values = st.floats(allow_nan=False, allow_infinity=False, width=width).map(float)
        column = Column("")
    elif kind == "truth":
        values, column = st.booleans(), Column("", "binary", 1.0, storage="bool")
    else:
        found = draw(st.lists(WORDS, min_size=2, max_size=4, unique=True)) if kind == "word" else NUMERALS
        known = [label for label in found if label.lower() not in MISSING_TOKENS]
        categories = tuple(draw(st.permutations(known)))
        values = st.sampled_from(categories)
        column = Column("", "categorical", 1.0, categories=categories, storage="string")
    can_miss = carrier not in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
    cell = st.one_of(values, values, st.none()) if can_miss else values
    return [draw(cell) for _ in range(num_rows)], column


def coded(cells: list[Any], column: Column) -> np.ndarray:
    """The numbers and codes of cells."""
    known = column.categories
    found = [math.nan if cell is None else float(known.index(cell) if known else cell) for cell in cells]
    return np.array(found, dtype=np.float64)


def held(draw: Any, cells: list[Any], kind: str, carrier: str) -> Any:
    """Cells in a carrier."""
    plain: list[Any] = cells
    if kind == "numeral" and carrier not in ("string", "bytes", "spaces", "dictionary", "text"):
        plain = [None if cell is None else float(cell) if "." in cell else int(cell) for cell in cells]
    texts = [None if cell is None else cell if isinstance(cell, str) else repr(cell) for cell in cells]
    missing = [cell is None for cell in cells]
    if carrier == "objects":
        marks = st.sampled_from(list(MARKS))
        mixed = [MARKS[draw(marks)] if cell is None else cell for cell in plain]
        array = np.empty(len(mixed), dtype=object)
        array[:] = mixed
        return pd.Series(array)
    if carrier in ("text", "bytes", "spaces", "decomposed", "upper case", "lower case"):
        tokens = [token for token in MISSING_TOKENS if kind == "whole" or token]
        around = draw(st.sampled_from([" ", "  ", "\t"])) if carrier == "spaces" else ""
        spelled = [draw(st.sampled_from(tokens)) if text is None else text for text in texts]
        spelled = [f"{around}{text}{around}" for text in spelled]
        if carrier.endswith("case"):
            spelled = [text.upper() if carrier == "upper case" else text.lower() for text in spelled]
        if carrier == "decomposed":
            spelled = [unicodedata.normalize("NFD", text) for text in spelled]
        return pd.Series([text.encode() for text in spelled] if carrier == "bytes" else spelled, dtype=object)
    if carrier in ("category", "ordered"):
        levels = list(dict.fromkeys(cell for cell in plain if cell is not None))
        levels = draw(st.permutations(levels))
        return pd.Series(pd.Categorical(plain, categories=levels, ordered=carrier == "ordered"))
    if carrier == "masked":
        fill = {"whole": 2**60, "real": math.inf, "truth": True, "word": "unknown", "numeral": math.inf}[kind]
        values = np.array([fill if cell is None else cell for cell in plain])
        return np.ma.masked_array(values, mask=missing)
    if carrier == "sparse":
        return pd.Series(pd.arrays.SparseArray([math.nan if cell is None else cell for cell in plain]))
    if carrier == "decimals":
        return pd.Series([None if cell is None else Decimal(cell) for cell in cells], dtype=object)
    if carrier == "Arrow decimals":
        return arrow_series(pa.array([None if cell is None else Decimal(cell) for cell in plain], pa.decimal128(20, 2)))
    if carrier == "run ends":
        import pyarrow.compute as pc

        return pc.run_end_encode(pa.array(plain, pa.int64()))
    if carrier in ("large_string", "string_view"):
        return pa.array(texts, getattr(pa, carrier)())
    if carrier == "dictionary":
        return dictionary(draw, texts)
    if carrier in ("float16", "float32", "float64", ">f8"):
        return np.array([math.nan if cell is None else cell for cell in plain], dtype=carrier)
    return pd.Series(plain, dtype=carrier)


def dictionary(draw: Any, texts: list[str | None]) -> pa.Array:
    """A dictionary whose missing cells are null themselves, or point to a null among the labels."""
    labels: list[str | None] = list(dict.fromkeys(text for text in texts if text is not None))
    labels = [*labels, "never seen", None]
    indices = [
        draw(st.sampled_from([None, len(labels) - 1])) if text is None else labels.index(text) for text in texts
    ]
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), pa.array(labels))


def arrow_series(array: Any) -> pd.Series:
    """An Arrow array as a pandas column."""
    return pd.Series(array, dtype=pd.ArrowDtype(array.type))


def as_series(cells: Any) -> pd.Series:
    """Any carrier as a pandas column."""
    if isinstance(cells, pd.Series):
        return cells.reset_index(drop=True)
    if isinstance(cells, np.ma.MaskedArray):
        return pd.Series(cells.astype(object).tolist(), dtype=object)
    if type(cells).__module__.startswith("pyarrow"):
        if isinstance(cells.type, pa.RunEndEncodedType) or str(cells.type) == "string_view":
            return pd.Series(cells.to_pylist(), dtype=object)
        return arrow_series(cells)
    return pd.Series(cells.astype(cells.dtype.newbyteorder("=")))


def as_arrow(cells: Any) -> pa.Array:
    """Any carrier as an Arrow array; None where Arrow has no type for it."""
    if type(cells).__module__.startswith("pyarrow"):
        return cells
    try:
        if isinstance(cells, np.ma.MaskedArray):
            return pa.array(cells.data, mask=np.ma.getmaskarray(cells))
        return pa.array(as_series(cells), from_pandas=True)
    except (pa.ArrowException, TypeError, NotImplementedError, AttributeError):
        return None


INDEXES = {
    "range": lambda n: pd.RangeIndex(n),
    "texts": lambda n: pd.Index([f"row {i}" for i in range(n)]),
    "equal": lambda n: pd.Index([0] * n),
    "dates": lambda n: pd.date_range("2024-01-01", periods=n, name="day"),
    "levels": lambda n: pd.MultiIndex.from_arrays([range(n), ["u"] * n], names=["i", "j"]),
}


@st.composite
def held_tables(draw: Any) -> Held:
    """A table held in a random way."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    num_rows = draw(st.integers(1, 8))
    carriers = tuple(draw(st.sampled_from((*CARRIERS[kind], *ALWAYS))) for kind in kinds)
    columns, rows, parts = [], [], {}
    for place, (kind, carrier) in enumerate(zip(kinds, carriers, strict=True)):
        cells, column = cells_of(draw, kind, carrier, num_rows)
        name = draw(st.sampled_from(["Größe", "n", "col,5", "日"])) + str(place)
        columns.append(Column(**{**vars(column), "name": name}))
        rows.append(coded(cells, column))
        parts[name] = held(draw, cells, kind, carrier)
    container = draw(st.sampled_from(["pandas", "pandas", "Arrow", "records", "pandas Parquet", "Arrow Parquet", "CSV"]))
    order = draw(st.permutations(list(parts)))
    parts = {name: parts[name] for name in order}
    source, container = contained(draw, parts, container, num_rows)
    return Held(source, tuple(columns), np.stack(rows, 1), carriers, container)


def contained(draw: Any, parts: dict[str, Any], container: str, num_rows: int) -> tuple[Any, str]:
    """Columns in a container, or in a pandas frame where that container does not hold them."""
    if container == "records":
        arrays = {
            name: cells
            for name, cells in parts.items()
            if isinstance(cells, np.ndarray) and cells.dtype.kind != "O"
        }
        if len(arrays) == len(parts):
            dtype = [(name, cells.dtype) for name, cells in parts.items()]
            masks = [np.ma.getmaskarray(cells) for cells in parts.values()]
            data = list(zip(*(np.ma.getdata(cells).tolist() for cells in parts.values()), strict=True))
            if any(mask.any() for mask in masks):
                return np.ma.masked_array(data, list(zip(*masks, strict=True)), dtype=dtype), container
            return np.array(data, dtype=dtype), container
    if container.startswith("Arrow"):
        arrays = {name: as_arrow(cells) for name, cells in parts.items()}
        if None not in arrays.values():
            cut = draw(st.integers(0, num_rows))
            whole = pa.table(list(arrays.values()), names=list(arrays))
            table = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
            if container == "Arrow":
                return table, container
            try:
                sink = io.BytesIO()
                parquet.write_table(table, sink, row_group_size=draw(st.integers(1, 4)))
                return sink.getvalue(), container
            except (pa.ArrowException, NotImplementedError):
                return table, "Arrow"
    frame = pd.DataFrame({name: as_series(cells) for name, cells in parts.items()})
    frame.index = INDEXES[draw(st.sampled_from(list(INDEXES)))](num_rows)
    if container.endswith("Parquet"):
        try:
            sink = io.BytesIO()
            frame.to_parquet(sink)
            return sink.getvalue(), "pandas Parquet"
        except (pa.ArrowException, TypeError, NotImplementedError, ValueError):
            pass
    if container == "CSV":
        return frame, container
    return frame, "pandas"


def check_holding(table: Held) -> None:
    """Compares every cell that is read with the one that is held; then writes the rows, and reads them again."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = table.source
        if isinstance(source, bytes):
            source = folder / "held.parquet"
            source.write_bytes(table.source)
        equal(read_rows(source, table.columns, missing="keep"), table.rows, "read by the columns of a fit")
        check_guess(source, table)
        for ending in (".csv", ".tsv.gz", ".parquet"):
            target = folder / f"written{ending}"
            with TableWriter(target) as writer:
                writer.append(decode_rows(table.rows, table.columns))
            equal(read_rows(target, table.columns, missing="keep"), table.rows, f"written as {ending}")
        if isinstance(source, pd.DataFrame):
            check_filling(source, table)
            # A 32-bit number is written with its own shortest digits, which a 64-bit one of equal value does not share.
            if table.container == "CSV" and not {"float16", "float32", "Float32", "float[pyarrow]"} & set(table.carriers):
                with TableWriter(folder / "frame.csv") as writer:
                    writer.append(source)
                found = read_rows(folder / "frame.csv", table.columns, missing="keep")
                equal(found, table.rows, "a frame written as text")


def check_guess(source: Any, table: Held) -> None:
    """Numbers keep their values and their missing cells where no fit rules; labels of few values keep their text."""
    found = read_table(source).table
    for place, (column, carrier) in enumerate(zip(table.columns, table.carriers, strict=True)):
        values, wanted = found.values[:, found.names.index(column.name)], table.rows[:, place]
        if column.name in found.problems and (column.categories or carrier in ("category", "ordered")):
            continue  # more labels than a new table may have
        if column.categories is None and carrier not in ("category", "ordered"):
            assert column.name not in found.problems, found.problems
            equal(values, wanted, f"guess of {column.name}")
        assert np.isnan(values).tolist() == np.isnan(wanted).tolist(), (column.name, values, wanted)


def check_filling(frame: pd.DataFrame, table: Held) -> None:
    """Missing cells that are filled in the frame's own types read as the values they were filled with."""
    filled, wanted = frame.copy(), table.rows.copy()
    for place, column in enumerate(table.columns):
        missing = np.isnan(wanted[:, place])
        wanted[missing, place] = 1.0
        values = decode_rows(np.ones((int(missing.sum()), 1)), (column,))[column.name]
        filled[column.name] = filled_column(frame[column.name], missing, values)
    assert filled.index.equals(frame.index)
    equal(read_rows(filled, table.columns), wanted, "filled")


def equal(found: Any, wanted: np.ndarray, what: str) -> None:
    """Equal to the last digit, NaN at the same places."""
    found = found.numpy() if isinstance(found, torch.Tensor) else found
    np.testing.assert_array_equal(found, wanted, err_msg=what)
