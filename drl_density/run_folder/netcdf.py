"""netCDF files, made in memory: the netCDF library itself does not survive a disk that fills while it writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from drl_density.run_folder.whole_files import write_bytes

if TYPE_CHECKING:  # xarray imports pandas, which would slow down `import drl_density`
    import xarray as xr


def netcdf_bytes(data: xr.Dataset | xr.DataTree) -> bytes:
    """The content of a netCDF file.

    Args:
        data: arrays with names, dimensions and coordinates.

    >>> import xarray as xr
    >>> netcdf_bytes(xr.Dataset({"x": ("row", [1.0, 2.0])}))[1:4]
    b'HDF'
    """
    return bytes(data.to_netcdf(engine="h5netcdf"))


def write_netcdf(target: str | Path, data: xr.Dataset | xr.DataTree) -> None:
    """Write labelled arrays as netCDF, whole or not at all.

    Args:
        target: path of the file.
        data: arrays with names, dimensions and coordinates.

    Raises:
        RunFolderError: the folder is missing, permission is denied, or the disk is full.

    >>> import tempfile
    >>> import xarray as xr
    >>> target = Path(tempfile.mkdtemp()) / "history.nc"
    >>> write_netcdf(target, xr.Dataset({"x": ("row", [1.0, 2.0])}))
    >>> target.read_bytes()[1:4]
    b'HDF'
    """
    write_bytes(target, netcdf_bytes(data))
