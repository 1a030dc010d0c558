"""One call opens every table that can be read in chunks."""

import gzip
import io
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from drl_density.datasets import Column, load_dataset, open_table, read_rows
from drl_density.datasets.tables.chunks import is_table, suffix_of
from drl_density.errors import DataError

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
TEXT = FRAME.to_csv(index=False).encode()


def test_endings():
    endings = {"a.csv": ".csv", "A.CSV.GZ": ".csv", "b.Parquet": ".parquet", "c": "", "d.gz": "", "e.tar.xz": ".tar"}
    assert {name: suffix_of(Path(name)) for name in endings} == endings


def test_what_is_a_table(tmp_path):
    FRAME.to_parquet(tmp_path / "part.0.parquet")
    assert all(map(is_table, ("-", "a.TXT", "a.dat.bz2", tmp_path, io.BytesIO(b""))))
    assert not any(map(is_table, ("wine", "a.npy", str(tmp_path / "none"), FRAME.to_numpy())))


@pytest.mark.parametrize("name", ["T.CSV", "t.csv.gz", "T.TSV", "t.data", "T.PARQUET", "folder"])
def test_each_file(name, tmp_path):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        FRAME[:30].to_parquet(path / "part.2.parquet")
        FRAME[30:].reset_index(drop=True).to_parquet(path / "part.10.parquet")
    elif name == "T.PARQUET":
        FRAME.to_parquet(path)
    else:
        text = FRAME.to_csv(index=False, sep="\t" if name == "T.TSV" else ",").encode()
        path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    table = open_table(path)
    assert table.names == ("a", "b")
    pd.testing.assert_frame_equal(pd.concat(list(table.chunks(7))), FRAME, check_exact=True)
    pd.testing.assert_frame_equal(table.read(names=["b"]), FRAME[["b"]], check_exact=True)
    assert sum(map(len, (lambda d: (d.train, d.validation, d.test))(load_dataset(path, seed=0)))) == 60


def test_standard_input_and_named_pipes(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(gzip.compress(TEXT)))
    writer.start()
    pd.testing.assert_frame_equal(open_table(pipe).read(), FRAME, check_exact=True)
    writer.join()
    for once in (True, False):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT)))
        columns = (Column("b"), Column("a")) if once else None
        pd.testing.assert_frame_equal(open_table("-", columns=columns).read(), FRAME, check_exact=True)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT)))
    assert read_rows("-", (Column("b"), Column("a"))).tolist() == FRAME[["b", "a"]].to_numpy().tolist()


def test_no_such_file():
    with pytest.raises(DataError, match="there is no file 'none.csv'"):
        open_table("none.csv")
