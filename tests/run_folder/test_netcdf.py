"""netCDF is made in memory and written by ourselves."""

import pytest
import xarray as xr

from drl_density.errors import RunFolderError
from drl_density.run_folder import netcdf_bytes, write_netcdf

DATA = xr.Dataset({"x": ("row", [1.0, 2.0])}, attrs={"name": "one"})


def test_datasets_and_trees_round_trip(tmp_path):
    write_netcdf(tmp_path / "data.nc", DATA)
    assert xr.load_dataset(tmp_path / "data.nc", engine="h5netcdf").identical(DATA)
    tree = xr.DataTree.from_dict({"group": DATA})
    write_netcdf(tmp_path / "tree.nc", tree)
    with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as stored:
        assert stored.load().identical(tree)


def test_the_library_never_writes_to_the_disk(monkeypatch, tmp_path):
    def opened(*_, **__):
        raise AssertionError("a file was opened")

    monkeypatch.setattr("builtins.open", opened)
    monkeypatch.setattr("os.open", opened)
    assert netcdf_bytes(DATA)[1:4] == b"HDF"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RunFolderError, match=r"cannot write .*data.nc: No such file or directory"):
        write_netcdf(tmp_path / "missing" / "data.nc", DATA)
