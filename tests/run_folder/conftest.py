"""Here files are written and read anew, as outside of tests."""

import pytest

from drl_density.run_folder import RunFolder, netcdf
from tests.conftest import read_labelled, write_content


@pytest.fixture(autouse=True)
def _files_of_their_own(monkeypatch):
    monkeypatch.setattr(netcdf, "netcdf_bytes", write_content)
    monkeypatch.setattr(RunFolder, "read_dataset", read_labelled)
