"""Files of arrays: one table each, named where there are several."""

import numpy as np
import pytest
import xarray as xr

from drl_density.datasets.tables.arrays import read_array_file, unreadable
from drl_density.errors import DataError

TABLE = np.random.default_rng(0).normal(size=(20, 2))


def test_each_format_in_any_case(tmp_path):
    np.save(tmp_path / "t.npy", TABLE)
    (tmp_path / "t.npy").rename(tmp_path / "T.NPY")
    np.savez(tmp_path / "t.npz", first=TABLE, second=TABLE[:5], other=np.arange(3))
    xr.Dataset({"v": (("row", "column"), TABLE)}).to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    assert read_array_file(tmp_path / "T.NPY").values.tolist() == TABLE.tolist()
    assert read_array_file(tmp_path / "t.nc").values.tolist() == TABLE.tolist()
    assert len(read_array_file(tmp_path / "t.npz", "second").values) == 5
    np.savez(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"none.npz: holds no array: save one, as by np.savez\('none.npz', rows=rows\)"):
        read_array_file(tmp_path / "none.npz")
    with pytest.raises(DataError, match="first, second, other, and none was named: write t.npz:NAME"):
        read_array_file(tmp_path / "t.npz")


def test_variables_along_one_dimension(tmp_path):
    xr.Dataset({"a": ("row", TABLE[:, 0]), "b": ("row", TABLE[:, 1])}).to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    assert read_array_file(tmp_path / "t.nc").names == ("a", "b")
    xr.Dataset({"a": ("row", TABLE[:, 0]), "b": ((), 1.0)}).to_netcdf(tmp_path / "bad.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="bad.nc: expected one array of rows, or variables along one dimension"):
        read_array_file(tmp_path / "bad.nc")


def test_variables_of_several_dimensions_are_no_rows(tmp_path):
    """Equal lengths alone do not make values belong together."""
    xr.Dataset({"u": ("r", TABLE[:, 0]), "v": ("s", TABLE[:, 1])}).to_netcdf(tmp_path / "two.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="two.nc: expected variables along one dimension, .* got u along r, v along s"):
        read_array_file(tmp_path / "two.nc")


def test_pickled_objects_are_never_read(tmp_path):
    np.save(tmp_path / "t.npy", np.array([{}, None], dtype=object))
    with pytest.raises(DataError, match="pickled objects, which are never read"):
        read_array_file(tmp_path / "t.npy")
    assert "is the file complete" in str(unreadable(tmp_path / "t.npy", ValueError("x")))
