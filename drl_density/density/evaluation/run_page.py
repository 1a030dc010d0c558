"""The report page of a run folder: its last likelihood report and every diagnosis of long chains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from drl_density.density.evaluation.diagnosis import Diagnosis
from drl_density.density.evaluation.likelihood_report import LikelihoodReport
from drl_density.density.evaluation.page.likelihood_page import likelihood_page
from drl_density.errors import RunFolderError
from drl_density.reports import ReportPage
from drl_density.run_folder import RunFolder, settle


def diagnosis_name(diagnosis: Diagnosis) -> str:
    """Name of a diagnosis in its run folder, by kind of target and level: see :meth:`RunFolder.diagnosis`.

    Args:
        diagnosis: long chains on one level, marginal or recovery conditional.
    """
    attributes = diagnosis.tree.attrs
    kind = "recovery" if attributes["is_recovery"] else "level"
    return f"{kind}_{attributes['level']:g}"


def run_page(path: str | Path) -> ReportPage:
    """The page of a run folder.

    Args:
        path: of the run folder.

    Raises:
        RunFolderError: nothing was evaluated or diagnosed there.
    """
    settle(path)
    folder = RunFolder(path)
    diagnoses = [Diagnosis.load(file) for file in folder.diagnoses]
    pages = [found.page() for found in diagnoses]
    if folder.report.is_file():
        pages.insert(0, likelihood_page(LikelihoodReport.load(folder.report), has_long_chains=bool(diagnoses)))
    if not pages:
        raise RunFolderError(f"{path} holds no report and no diagnosis; make one with drl-density evaluate or diagnose")
    return dataclasses.replace(pages[0], others=tuple(pages[1:]))


def write_run_page(path: str | Path) -> Path:
    """Write ``report.html`` of a run folder again from what is stored in it.

    Args:
        path: of the run folder.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: nothing was evaluated or diagnosed there, another writer, or a full disk.
    """
    with RunFolder.writing(path) as folder:
        folder.write_text(folder.page, run_page(path).to_html())
        return folder.page
