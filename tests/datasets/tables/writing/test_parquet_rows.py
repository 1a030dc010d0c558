"""Rows as Parquet: kept types, index and metadata, joined parts."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from drl_density.datasets.tables.writing import parquet_rows
from drl_density.datasets.tables.writing.parquet_rows import arrow_table
from drl_density.datasets.tables.writing.writer import TableWriter, join_tables, write_table
from drl_density.errors import DataError


def source_table(tmp_path):
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None, 2**60 + 1], dtype="Int64"),
            "small": np.array([1, 2, 3], dtype="int8"),
            "f": np.array([0.1, np.nan, 0.3], dtype="float32"),
            "flag": pd.array([True, None, False], dtype="boolean"),
            "when": pd.to_datetime(["2024-01-01", None, "2024-01-03"]),
            "size": pd.Categorical(["low", "high", None], categories=["low", "middle", "high"], ordered=True),
        },
        index=pd.Index([10, 20, 30], name="id"),
    )
    frame.to_parquet(tmp_path / "in.parquet")
    return frame, parquet.read_schema(tmp_path / "in.parquet")


def test_parquet_keeps_types_index_and_metadata_and_adds_columns(tmp_path):
    frame, schema = source_table(tmp_path)
    schema = schema.with_metadata({**schema.metadata, b"owner": b"lab"})
    with TableWriter(tmp_path / "out.parquet", schema=schema) as writer:
        for part in (frame.iloc[:2], frame.iloc[2:]):
            writer.append(part.assign(log_density=np.arange(len(part)) + 0.5))
    back = pd.read_parquet(tmp_path / "out.parquet")
    assert back.pop("log_density").tolist() == [0.5, 1.5, 0.5]
    pd.testing.assert_frame_equal(back, frame)
    written = parquet.read_schema(tmp_path / "out.parquet")
    assert written.metadata[b"owner"] == b"lab"
    assert [written.field(name).type for name in schema.names] == [schema.field(name).type for name in schema.names]


def test_only_added_columns_keep_the_index(tmp_path):
    frame, schema = source_table(tmp_path)
    write_table(tmp_path / "out.parquet", [frame[[]].assign(p=[1.0, 2.0, 3.0])], schema=schema)
    back = pd.read_parquet(tmp_path / "out.parquet")
    assert back.columns.tolist() == ["p"]
    assert back.index.equals(frame.index)


def test_a_source_without_notes_of_pandas_stays_without(tmp_path):
    schema = pa.schema([("a", pa.int32())], metadata={b"k": b"v"})
    table = arrow_table(pd.DataFrame({"a": [1, 2], "p": [0.5, 0.6]}), schema)
    assert table.schema.metadata == {b"k": b"v"}
    assert table.schema.types == [pa.int32(), pa.float64()]
    bare = pa.schema([("a", pa.int32())])
    assert arrow_table(pd.DataFrame({"a": [1]}), bare).schema.metadata is None


WIDER = {
    "a fraction among decimals": (
        [Decimal("1.10"), Decimal("0.5123")],
        pa.decimal128(10, 2),
        pa.float64(),
        [1.1, 0.5123],
    ),
    "decimals as numbers": ([Decimal("1.10"), 0.5123], pa.float64(), pa.float64(), [1.1, 0.5123]),
    "decimals": ([Decimal("1.10"), Decimal("0.5")], pa.decimal128(10, 2), pa.decimal128(10, 2), [1.1, 0.5]),
    "300 in 8 bits": ([1, None, 300], pa.int8(), pa.float64(), [1.0, None, 300.0]),
    "a label among numbers": ([1, "odd"], pa.int64(), pa.string(), ["1", "odd"]),
}


@pytest.mark.parametrize("name", WIDER)
def test_values_that_the_type_of_the_source_does_not_hold_get_a_wider_one(name):
    cells, own, kind, expected = WIDER[name]
    table = arrow_table(pd.DataFrame({"a": pd.Series(cells, dtype=object)}), pa.schema([("a", own)]))
    assert table.schema.types == [kind]
    assert [float(v) if isinstance(v, Decimal) else v for v in table["a"].to_pylist()] == expected


def test_an_empty_chunk_does_not_decide_on_types(tmp_path):
    empty = pd.DataFrame({"a": pd.Series(dtype=object)})
    write_table(tmp_path / "a.parquet", [empty, pd.DataFrame({"a": [0.5]}), empty])
    assert pd.read_parquet(tmp_path / "a.parquet")["a"].tolist() == [0.5]


def test_chunks_of_other_types_are_named(tmp_path):
    with pytest.raises(DataError, match=r"int64 before and double now"):
        write_table(tmp_path / "a.parquet", [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [0.5]})])
    assert list(tmp_path.iterdir()) == []


def test_joined_parquet_parts_get_the_type_that_holds_all(tmp_path):
    columns = [pd.array([None, None], dtype=object), [1, 2], [0.5, 1.5]]
    parts = []
    for index, values in enumerate(columns):
        parts.append(tmp_path / f"{index}.parquet")
        write_table(parts[-1], [pd.DataFrame({"a": values})])
    join_tables(parts, tmp_path / "out.parquet")
    back = pd.read_parquet(tmp_path / "out.parquet")["a"]
    assert back.isna().tolist() == [True, True, False, False, False, False]
    assert back[2:].tolist() == [1.0, 2.0, 0.5, 1.5]


def test_joined_row_groups_are_not_small(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "ROWS_OF_A_GROUP", 4)
    parts = [tmp_path / f"{index}.parquet" for index in range(5)]
    for part in parts:
        write_table(part, [pd.DataFrame({"a": [1, 2]})])
    join_tables(parts, tmp_path / "out.parquet")
    found = parquet.ParquetFile(tmp_path / "out.parquet").metadata
    assert [found.row_group(index).num_rows for index in range(found.num_row_groups)] == [4, 4, 2]


def test_parts_with_numbers_and_texts_are_joined_as_texts(tmp_path):
    """A saved index in text is read chunk by chunk: what looks like numbers at first may hold other signs later."""
    parts = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for part, index in zip(parts, ([7, 8], ["9", "A1"]), strict=True):
        write_table(part, [pd.DataFrame({"n": [1, 2]}, index=pd.Index(index, name="id"))])
    join_tables(parts, tmp_path / "out.parquet")
    back = pd.read_parquet(tmp_path / "out.parquet")
    assert (back.index.tolist(), back["n"].tolist()) == (["7", "8", "9", "A1"], [1, 2, 1, 2])
