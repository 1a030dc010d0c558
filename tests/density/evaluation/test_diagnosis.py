"""The record of long chains: its figures, its file and its words."""

import pytest

from drl_density.density import Diagnosis
from drl_density.errors import RunFolderError, Verdict


def test_figures_and_words_come_from_the_tree(stable):
    assert stable.verdict is Verdict.STABLE
    assert stable["max_r_hat"] == stable.tree.attrs["max_r_hat"]
    assert stable.target == "level 0"
    assert stable.advice in stable.summary()
    with pytest.raises(KeyError):
        stable["nothing"]


def test_a_diagnosis_is_written_and_read(stable, tmp_path):
    again = Diagnosis.load(stable.save(tmp_path / "diagnosis.nc"))
    assert again.verdict is stable.verdict
    assert again.summary() == stable.summary()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diagnosis.nc"]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be read as a diagnosis"):
        Diagnosis.load(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("no diagnosis")
    with pytest.raises(RunFolderError, match="cannot be read as a diagnosis"):
        Diagnosis.load(tmp_path / "text.nc")
