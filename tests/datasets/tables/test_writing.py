"""Written tables: every digit, kept types and metadata, whole files, joined parts, and refused targets."""

import builtins
import gzip
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from drl_density.datasets.tables import writing
from drl_density.datasets.tables.writing import (
    TableWriter,
    arrow_table,
    check_target,
    free_names,
    join_tables,
    table_format,
    write_table,
    written_cells,
)
from drl_density.errors import DataError, RunFolderError

AWKWARD = [0.1 + 0.2, 1e-300, -0.0, 5.0, 123456789.123456789, 2.0**53]


@pytest.mark.parametrize(
    ("name", "kind", "is_compressed"),
    [("a.csv", "csv", False), ("a.b.CSV", "csv", False), ("A.Csv.GZ", "csv", True), ("a.TSV", "tsv", False),
     ("a.tsv.gz", "tsv", True), ("a.Parquet", "parquet", False), ("-", "csv", False), (None, "csv", False)],
)  # fmt: skip
def test_the_ending_gives_the_format(name, kind, is_compressed):
    found = table_format(name)
    assert (found.kind, found.is_compressed) == (kind, is_compressed)
    assert name in (None, "-") or name.endswith(found.ending)


@pytest.mark.parametrize("name", ["rows", "rows.xlsx", "rows.gz", "csv", "rows.csv.bz2", "rows.npy"])
def test_an_unknown_ending_is_named_with_those_that_are_known(name):
    with pytest.raises(DataError, match=r"expected a file ending in \.csv, .*standard output; got"):
        table_format(name)


def test_parquet_without_pyarrow_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"drl-density\[tables\]"):
        table_format("rows.parquet")


def test_targets_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("a\n1\n")
    (tmp_path / "link.csv").symlink_to(source)
    os.link(source, tmp_path / "hard.csv")
    for name in ("in.csv", "link.csv", "hard.csv", "./in.csv"):
        with pytest.raises(DataError, match="is what is read here"):
            check_target(tmp_path / name, sources=[source])
    with pytest.raises(DataError, match="there is no folder"):
        check_target(tmp_path / "none" / "out.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="it is a folder"):
        check_target(tmp_path / "folder.csv")
    with pytest.raises(DataError, match="is what is read here"):
        check_target(tmp_path / "folder.csv" / "new.parquet", sources=[tmp_path / "folder.csv"])
    assert check_target(tmp_path / "out.csv", sources=[source, "-", tmp_path / "none.csv"]).kind == "csv"
    assert check_target("-", sources=["-"]).kind == "csv"


def test_no_permission_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(writing.os, "access", lambda *_: False)
    with pytest.raises(DataError, match="no permission"):
        check_target(tmp_path / "out.csv")


def test_added_names_give_way_to_those_of_the_table():
    assert free_names(["a", "p", "p_2"], ["p", "q"]) == {"p": "p_3", "q": "q"}
    assert free_names([], ["p", "p"]) == {"p": "p_2"}
    assert free_names(["x"], ["p"]) == {"p": "p"}


def test_numbers_are_written_with_all_their_digits(tmp_path):
    frame = pd.DataFrame({"x": AWKWARD, "n": [1, 2, 3, 4, 2**62 + 1, -5]})
    for name in ("a.csv", "a.tsv.gz", "a.parquet"):
        assert write_table(tmp_path / name, [frame[:2], frame[2:]]) == 6
    for back in (
        pd.read_csv(tmp_path / "a.csv", dtype={"x": str}),
        pd.read_csv(tmp_path / "a.tsv.gz", sep="\t", dtype={"x": str}),
        pd.read_parquet(tmp_path / "a.parquet"),
    ):
        back["x"] = [float(value) for value in back["x"]]
        assert back["x"].tolist() == AWKWARD
        assert np.signbit(back["x"][2])
        assert back["n"].tolist() == frame["n"].tolist()
    assert (tmp_path / "a.csv").read_bytes().startswith(b"x,n\n0.30000000000000004,1\n")


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        (pd.Series([0.1, np.nan], dtype="float32"), ["0.1", None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series([1.5, None], dtype="Float64"), [1.5, None]),
        (pd.Series([1.5, None], dtype="Float32"), ["1.5", None]),
        (pd.Series([1.5, None], dtype=pd.ArrowDtype(pa.float64())), [1.5, None]),
        (pd.Series([2**60 + 1, None], dtype=pd.ArrowDtype(pa.int64())), [2**60 + 1, None]),
        (pd.Series([True, None], dtype="boolean"), [True, None]),
        (pd.Series([True, False]), [True, False]),
        (pd.Series(["007", None]), ["007", None]),
        (pd.Series(["007", "NA"], dtype=object), ["007", "NA"]),
        (pd.Series(pd.Categorical(["low", None], categories=["low", "high"])), ["low", None]),
        (pd.Series(pd.to_datetime(["2024-01-01", None])), ["2024-01-01 00:00:00", None]),
        (pd.Series(pd.to_datetime(["2024-01-01 10:00"]).tz_localize("Europe/Berlin")), ["2024-01-01 10:00:00+01:00"]),
        (pd.Series(pd.to_timedelta([1, None], unit="D")), ["1 days 00:00:00", None]),
        (pd.Series([], dtype=float), []),
    ],
)
def test_cells_of_every_kind_are_written_as_they_are(column, cells):
    found = written_cells(column)
    assert found == cells
    assert [type(cell) for cell in found] == [type(cell) for cell in cells]


def test_text_is_quoted_where_it_must_be(tmp_path):
    frame = pd.DataFrame({"a,b": ["x,y", 'say "no"', "two\nlines", ""], "c": ["ä", "1", "", None]})
    write_table(tmp_path / "a.csv", [frame])
    back = pd.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)
    assert back.to_numpy().tolist() == [["x,y", "ä"], ['say "no"', "1"], ["two\nlines", ""], ["", ""]]
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()


def test_columns_named_alike_are_all_written(tmp_path):
    write_table(tmp_path / "a.csv", [pd.DataFrame([[1, 2]], columns=["a", "a"])])
    assert (tmp_path / "a.csv").read_text() == "a,a\n1,2\n"


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
        for part in (frame[:2], frame[2:]):
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


def test_an_empty_table_has_a_header_and_no_rows(tmp_path):
    frame = pd.DataFrame({"a": pd.Series(dtype=float), "b": pd.Series(dtype=str)})
    for name in ("a.csv", "a.csv.gz", "a.parquet"):
        assert write_table(tmp_path / name, [frame]) == 0
    assert (tmp_path / "a.csv").read_text() == "a,b\n"
    assert pd.read_csv(tmp_path / "a.csv.gz").columns.tolist() == ["a", "b"]
    assert parquet.read_table(tmp_path / "a.parquet").shape == (0, 2)


def test_an_empty_chunk_does_not_decide_on_types(tmp_path):
    empty = pd.DataFrame({"a": pd.Series(dtype=object)})
    write_table(tmp_path / "a.parquet", [empty, pd.DataFrame({"a": [0.5]}), empty])
    assert pd.read_parquet(tmp_path / "a.parquet")["a"].tolist() == [0.5]


def test_chunks_of_other_types_are_named(tmp_path):
    with pytest.raises(DataError, match=r"int64 before and double now"):
        write_table(tmp_path / "a.parquet", [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [0.5]})])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_a_failure_leaves_the_old_file_and_nothing_else(name, tmp_path):
    target = tmp_path / name
    target.write_bytes(b"mine")

    def chunks():
        yield pd.DataFrame({"a": [1]})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_table(target, chunks())
    assert target.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_a_full_disk_is_named_and_leaves_the_old_file(name, tmp_path, monkeypatch):
    target = tmp_path / name
    target.write_bytes(b"mine")

    sink = writing._ParquetSink if name.endswith("parquet") else writing._TextSink
    for step in ("append", "close"):
        real = getattr(sink, step)

        def full(self, *rest, real=real):
            real(self, *rest)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(sink, step, full)
            with pytest.raises(RunFolderError, match=r"No space left.*its earlier content is untouched"):
                write_table(target, [pd.DataFrame({"a": [1]})])
        assert target.read_bytes() == b"mine"
        assert list(tmp_path.iterdir()) == [target]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RunFolderError, match=r"cannot write .*none/a\.csv"):
        write_table(tmp_path / "none" / "a.csv", [pd.DataFrame({"a": [1]})])


def test_standard_output_gets_rows_at_once(capsys):
    with TableWriter("-") as writer:
        writer.append(pd.DataFrame({"a": [1]}))
        assert capsys.readouterr().out == "a\n1\n"
        writer.append(pd.DataFrame({"a": [2]}))
    assert capsys.readouterr().out == "2\n"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.parquet"])
def test_joined_parts_equal_one_file(name, tmp_path):
    frame = pd.DataFrame({"x": np.arange(7) / 3, "s": list("abcdefg")})
    parts = []
    for index, rows in enumerate((frame[:3], frame[3:4], frame[4:4], frame[4:])):
        part = tmp_path / f"part{index}{table_format(name).ending}"
        with TableWriter(part, has_header=index == 0) as writer:
            writer.append(rows)
        parts.append(part)
    join_tables(parts, tmp_path / name)
    write_table(tmp_path / f"whole.{name}", [frame])
    if name.endswith("parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / name), frame)
    else:
        unpack = gzip.decompress if name.endswith("gz") else bytes
        first, second = (unpack((tmp_path / each).read_bytes()) for each in (name, f"whole.{name}"))
        assert first == second


def test_equal_rows_give_equal_bytes_in_gzip(tmp_path):
    for name in ("a.csv.gz", "b.csv.gz"):
        write_table(tmp_path / name, [pd.DataFrame({"a": [1, 2]})])
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


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
    monkeypatch.setattr(writing, "ROWS_OF_A_GROUP", 4)
    parts = [tmp_path / f"{index}.parquet" for index in range(5)]
    for part in parts:
        write_table(part, [pd.DataFrame({"a": [1, 2]})])
    join_tables(parts, tmp_path / "out.parquet")
    found = parquet.ParquetFile(tmp_path / "out.parquet").metadata
    assert [found.row_group(index).num_rows for index in range(found.num_row_groups)] == [4, 4, 2]
