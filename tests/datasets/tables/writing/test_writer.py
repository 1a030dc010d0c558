"""Written tables: every digit, a saved index in every format, whole files, joined parts."""

import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest

from drl_density.datasets.tables.writing.formats import table_format
from drl_density.datasets.tables.writing.parquet_rows import ParquetSink
from drl_density.datasets.tables.writing.text_rows import TextSink
from drl_density.datasets.tables.writing.writer import TableWriter, free_names, join_tables, write_table
from drl_density.errors import RunFolderError

AWKWARD = [0.1 + 0.2, 1e-300, -0.0, 5.0, 123456789.123456789, 2.0**53]


def test_added_names_give_way_to_those_of_the_table():
    assert free_names(["a", "p", "p_2"], ["p", "q"]) == {"p": "p_3", "q": "q"}
    assert free_names([], ["p", "p"]) == {"p": "p_2"}
    assert free_names(["x"], ["p"]) == {"p": "p"}


def test_numbers_are_written_with_all_their_digits(tmp_path):
    frame = pd.DataFrame({"x": AWKWARD, "n": [1, 2, 3, 4, 2**62 + 1, -5]})
    for name in ("a.csv", "a.tsv.gz", "a.parquet"):
        assert write_table(tmp_path / name, [frame.iloc[:2], frame.iloc[2:]]) == 6
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


def test_an_empty_table_has_a_header_and_no_rows(tmp_path):
    frame = pd.DataFrame({"a": pd.Series(dtype=float), "b": pd.Series(dtype=str)})
    for name in ("a.csv", "a.csv.gz", "a.parquet"):
        assert write_table(tmp_path / name, [frame]) == 0
    assert (tmp_path / "a.csv").read_text() == "a,b\n"
    assert pd.read_csv(tmp_path / "a.csv.gz").columns.tolist() == ["a", "b"]
    assert parquet.read_table(tmp_path / "a.parquet").shape == (0, 2)


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

    sink = ParquetSink if name.endswith("parquet") else TextSink
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_device_has_no_earlier_content():
    with pytest.raises(RunFolderError) as caught:
        write_table("/dev/full", [pd.DataFrame({"a": [1]})])
    assert "No space left" in str(caught.value)
    assert "untouched" not in str(caught.value)


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
    for index, rows in enumerate((frame.iloc[:3], frame.iloc[3:4], frame.iloc[4:4], frame.iloc[4:])):
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


def indexed(names):
    levels = [["x,1", "y", "z"], [3, 1, 2]][: len(names)]
    index = pd.MultiIndex.from_arrays(levels, names=names) if len(names) > 1 else pd.Index(levels[0], name=names[0])
    return pd.DataFrame({"a": [1.5, None, 0.1], "s": ["p", "q", "r"]}, index=index)


@pytest.mark.parametrize("names", [["id"], [None], ["id", "visit"]])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz", "a.parquet"])
def test_a_saved_index_is_kept_in_every_format(name, names, tmp_path):
    frame = indexed(names)
    parts = []
    for number, rows in enumerate((frame.iloc[:2], frame.iloc[2:])):
        parts.append(tmp_path / f"{number}.{name}")
        with TableWriter(parts[-1], has_header=number == 0) as writer:
            writer.append(rows)
    join_tables(parts, tmp_path / name)
    write_table(tmp_path / f"whole.{name}", [frame.iloc[:2], frame.iloc[2:]])
    for path in (tmp_path / name, tmp_path / f"whole.{name}"):
        if name.endswith("parquet"):
            back = pd.read_parquet(path)
        else:
            separator = "\t" if ".tsv" in name else ","
            back = pd.read_csv(path, sep=separator, index_col=list(range(len(names))))
        pd.testing.assert_frame_equal(back, frame)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_the_numbers_of_rows_are_no_index_to_keep(name, tmp_path):
    write_table(tmp_path / name, [pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 7))])
    back = pd.read_csv(tmp_path / name) if name == "a.csv" else pd.read_parquet(tmp_path / name)
    pd.testing.assert_frame_equal(back, pd.DataFrame({"a": [1, 2]}))


@pytest.mark.parametrize("name", ["pipe", "pipe.csv.gz"])
def test_a_named_pipe_is_written_to_and_not_replaced(name, tmp_path):
    pipe = tmp_path / name
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(pipe.read_bytes)
        assert write_table(pipe, [pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3]})]) == 3
        text = got.result(10)
    assert (gzip.decompress(text) if name.endswith(".gz") else text) == b"a\n1\n2\n3\n"
    assert pipe.is_fifo()


def test_a_pipe_that_nobody_reads_any_more_is_a_broken_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: pipe.open("rb").close())
        with pytest.raises(BrokenPipeError):
            write_table(pipe, [pd.DataFrame({"a": range(1000)})] * 1000)


def test_other_names_of_standard_output_are_standard_output(capsys):
    write_table("/dev/stdout", [pd.DataFrame({"a": [1]})])
    assert capsys.readouterr().out == "a\n1\n"
