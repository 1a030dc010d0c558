"""The page of a run folder with every diagnosis in it."""

import pytest

from drl_density.density import Diagnosis
from drl_density.density.evaluation.run_page import run_page
from drl_density.errors import RunFolderError


def test_page_and_files(stable, slow, tmp_path):
    for name, found in {"diagnosis_level_0.nc": stable, "diagnosis_recovery_1.nc": slow}.items():
        found.save(tmp_path / name)
    again = Diagnosis.load(tmp_path / "diagnosis_level_0.nc")
    assert again.summary() == stable.summary()
    page = run_page(tmp_path).to_html()
    assert page.count("<figure>") == 3
    assert len(page) < 1_000_000
    assert '<span class="verdict slow">chains of level 0: slow</span>' in page
    assert "parallel tempering" in page
    with pytest.raises(RunFolderError, match="no report and no diagnosis"):
        run_page(tmp_path / "elsewhere")
    Diagnosis(slow.tree["occupancy"].copy()).save(tmp_path / "other.nc")
    with pytest.raises(RunFolderError, match="expected a"):
        Diagnosis.load(tmp_path / "other.nc")
