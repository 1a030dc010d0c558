"""Formats by their endings, and refused targets."""

import builtins
import os

import pytest

from drl_density.datasets.tables.writing import formats
from drl_density.datasets.tables.writing.formats import check_target, is_stream, table_format
from drl_density.errors import DataError, DataWarning


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
    monkeypatch.setattr(formats.os, "access", lambda *_: False)
    with pytest.raises(DataError, match="no permission"):
        check_target(tmp_path / "out.csv")


def test_pipes_and_devices_without_an_ending_get_csv_and_are_said(tmp_path):
    pipe, named = tmp_path / "pipe", tmp_path / "pipe.tsv.gz"
    for path in (pipe, named, tmp_path / "pipe.parquet", tmp_path / "pipe.xlsx"):
        os.mkfifo(path)
    for target in (pipe, "/dev/stdout", "/dev/fd/7", "/dev/null"):
        with pytest.warns(DataWarning, match=f"{target} has no ending that names a format: rows are written as CSV"):
            assert check_target(target) == table_format("-")
    assert (check_target(named).kind, check_target(named).is_compressed) == ("tsv", True)
    assert not is_stream("/dev/shm/rows.csv")  # a folder of files in memory
    with pytest.raises(DataError, match="is a pipe, and Parquet is written to files only"):
        check_target(tmp_path / "pipe.parquet")
    with pytest.raises(DataError, match=r"expected a file ending in .*got \.xlsx"):
        check_target(tmp_path / "pipe.xlsx")
