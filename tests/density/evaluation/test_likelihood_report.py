"""Reports as files and pages."""

import shutil
import subprocess

import matplotlib.image
import pytest
import torch
import xarray as xr

import drl_density as drl
from drl_density.errors import RunFolderError


def test_tree_goes_to_disk_and_back(report, tmp_path):
    again = drl.LikelihoodReport.load(report.save(tmp_path / "report.nc"))
    assert again.log_z == report.log_z
    assert torch.equal(again.log_likelihood, report.log_likelihood)
    assert again.estimates == report.estimates
    assert again.verdict == report.verdict


def test_foreign_and_missing_reports_are_refused(tmp_path):
    with pytest.raises(RunFolderError, match="there is no report"):
        drl.LikelihoodReport.load(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("not a report")
    with pytest.raises(RunFolderError, match="cannot be read"):
        drl.LikelihoodReport.load(tmp_path / "text.nc")
    xr.DataTree.from_dict({"a": xr.Dataset({"x": 1})}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(RunFolderError, match="evaluate again"):
        drl.LikelihoodReport.load(tmp_path / "other.nc")


def test_a_report_of_another_version_is_refused_and_stays(report, tmp_path):
    older = report.tree.copy()
    older.attrs["format"] = "drl_density likelihood report, version 1"
    path = drl.LikelihoodReport(older).save(tmp_path / "older.nc")
    with pytest.raises(RunFolderError, match="version 1'; evaluate again"):
        drl.LikelihoodReport.load(path)
    assert path.is_file()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: the page is not rendered")
def test_page_renders_in_a_browser(report, tmp_path):
    page = report.to_html(tmp_path / "report.html")
    picture = tmp_path / "page.png"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-sync", "--no-first-run"]
    command += [
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command += ["--window-size=1000,3000", f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[:2] == (3000, 1000)
    assert pixels[:1500].std() > 0.05  # text and figures, not a blank sheet


def test_a_notebook_shows_the_key_figures(report, stable, tiny_density):
    card = report._repr_html_()
    assert f"{report.mean_log_likelihood:.3f}" in card
    assert f">{report.verdict}<" in card
    assert ">stable<" in stable._repr_html_()
    assert f"{stable['max_r_hat']:.3g}" in stable._repr_html_()
    assert f"{tiny_density.baselines.model:.3f} nats per row" in tiny_density._repr_html_()
