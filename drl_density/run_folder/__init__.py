"""Run folders: their layout, locks, and files and whole runs that are written completely or not at all."""

from drl_density.run_folder.folder import RunFolder, refuse_occupied
from drl_density.run_folder.layout import FORMAT_VERSION
from drl_density.run_folder.lock import FolderLock
from drl_density.run_folder.netcdf import netcdf_bytes, write_netcdf
from drl_density.run_folder.replacement import Replacement, is_incomplete, settle
from drl_density.run_folder.whole_files import write_bytes, write_whole

__all__ = [
    "FORMAT_VERSION",
    "FolderLock",
    "Replacement",
    "RunFolder",
    "is_incomplete",
    "netcdf_bytes",
    "refuse_occupied",
    "settle",
    "write_bytes",
    "write_netcdf",
    "write_whole",
]
