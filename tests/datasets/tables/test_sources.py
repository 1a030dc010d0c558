"""Every format gives the same table; every faulty file is named."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from drl_density import load_dataset
from drl_density.datasets.tables.sources import read_table
from drl_density.errors import DataError
from tests.datasets.samples import FRAME, TABLE, cut, text


def write_all(folder):
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"])
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_csv(folder / "t.tsv", index=False, sep="\t")
    frame.to_csv(folder / "semicolon.csv", index=False, sep=";")
    frame.to_parquet(folder / "t.parquet")
    np.save(folder / "t.npy", TABLE)
    np.savez(folder / "t.npz", table=TABLE, other=TABLE[:20])
    xr.Dataset({name: ("row", TABLE[:, i]) for i, name in enumerate("abc")}).to_netcdf(
        folder / "t.nc", engine="h5netcdf"
    )


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "semicolon.csv", "t.parquet", "t.npy", "t.npz:table", "t.nc"])
def test_every_file_format(tmp_path, name):
    write_all(tmp_path)
    data = load_dataset(str(tmp_path / name), seed=0)
    rows = torch.cat([data.train, data.validation, data.test])
    assert rows.shape == (200, 3)
    np.testing.assert_allclose(np.sort(rows[:, 0]), np.sort(TABLE[:, 0]), rtol=1e-12)


def test_text_columns_become_codes_and_free_text_is_kept_apart():
    frame = pd.DataFrame({"a": TABLE[:, 0], "c": ["x", "y"] * 100, "t": [f"word {i}" for i in range(200)]})
    table = read_table(frame).table
    assert table.categories == {"c": ("x", "y")}
    assert table.values[:2, 1].tolist() == [0.0, 1.0]
    assert bool(np.isnan(table.values[:, 2]).all())
    assert list(table.texts) == ["c", "t"]
    assert table.select(["c"]).names == ("c",)
    with pytest.raises(
        DataError, match="here: column 't', row 1: 'word 0' is text, not a number; .* 200 values, too many"
    ):
        table.refuse_problems("here")


def test_arrays_of_points_keep_their_shape():
    table = read_table(np.zeros((5, 2, 3))).table
    assert table.event_shape == (2, 3)
    assert table.names == tuple(f"x{index}" for index in range(6))


def test_an_archive_with_several_arrays_needs_a_name(tmp_path):
    np.savez(tmp_path / "t.npz", first=TABLE, second=TABLE[:5])
    assert len(read_table(f"{tmp_path / 't.npz'}:second").table.values) == 5
    with pytest.raises(DataError, match="first, second, and none was named: write t.npz:NAME"):
        read_table(tmp_path / "t.npz")
    with pytest.raises(DataError, match="'third' is not one of them"):
        read_table(f"{tmp_path / 't.npz'}:third")


BAD = {
    "cut npz": (
        lambda p: load_dataset(cut(p / "a.npz", lambda f: np.savez(f, x=TABLE))),
        "a.npz.*is the file complete",
    ),
    "cut npy": (lambda p: load_dataset(cut(p / "a.npy", lambda f: np.save(f, TABLE))), "a.npy.*is the file complete"),
    "cut parquet": (lambda p: load_dataset(cut(p / "a.parquet", FRAME.to_parquet)), "a.parquet.*is the file complete"),
    "cut netcdf": (
        lambda p: load_dataset(cut(p / "a.nc", lambda f: FRAME.to_xarray().to_netcdf(f, engine="h5netcdf"))),
        "a.nc.*is the file complete",
    ),
    "cut csv": (lambda p: load_dataset(text(p / "a.csv", "a,b\n1,2\n3,4\n5")), "row 4 has 1 cells, expected 2"),
    "header alone": (lambda p: load_dataset(text(p / "a.csv", "a,b\n")), r"has a header \(a, b\) and no rows"),
    "suffix": (lambda p: load_dataset(text(p / "a.xyz", "1")), "expected a file ending in"),
    "empty": (lambda p: load_dataset(text(p / "a.csv", "")), "the file is empty"),
    "ragged": (lambda p: load_dataset(text(p / "a.csv", "a,b\n1,2\n3\n")), "row 3 has 1 cells, expected 2"),
    "free text": (
        lambda p: load_dataset(text(p / "a.csv", "a,b\n" + "".join(f"{i},word{i}\n" for i in range(50)))),
        "column 'b', row 2: 'word0' is text",
    ),
    "empty cell": (lambda p: load_dataset(text(p / "a.csv", "a,b\n1,2\n3,\n")), "column 'b', row 3"),
    "twice": (lambda p: load_dataset(text(p / "a.csv", "a,a\n1,2\n")), "named twice: a"),
    "truncated npy": (lambda p: load_dataset(text(p / "a.npy", "\x93NUMPY")), "is the file complete"),
    "truncated npz": (lambda p: load_dataset(text(p / "a.npz", "PK")), "is the file complete|cannot be read"),
    "shape": (lambda p: load_dataset(np.ones(5)), "got shape"),
    "dtype": (lambda p: load_dataset(np.array([[1j]])), "complex numbers"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_bad_input(tmp_path, name):
    call, message = BAD[name]
    with pytest.raises(DataError, match=message):
        call(tmp_path)
