"""The demonstration: its files, and its figures against closed forms."""

import dataclasses
import functools
from types import SimpleNamespace

import pytest
import torch

import drl_density as drl
from drl_density.cli import demo
from drl_density.density.fitting.table import prepare_table
from drl_density.errors import RunFolderError, Verdict
from tests.conftest import TINY

pytestmark = pytest.mark.usefixtures("short_paths")

TOY = dataclasses.replace(
    TINY,
    base="gaussian",
    transform="standardize",
    selection="last",
    num_particles=16,
    schedule=drl.LogSpacedSchedule(num_levels=3),
    training=drl.TrainingSettings(num_steps=4, batch_size=32, evaluate_every=2),
)


@pytest.fixture
def few_rows(monkeypatch):
    """Data sets of 200 rows."""
    monkeypatch.setattr(demo, "load_dataset", functools.partial(demo.load_dataset, num_rows=200))


@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
@pytest.mark.usefixtures("few_rows", "quick_evaluation")
def test_demo_writes_a_page(tmp_path):
    out = tmp_path / "demo"
    done = demo.run_demo("eight_gaussians", out, settings=TOY, progress=False)
    assert "kernel density" in done.text
    assert done.verdict in Verdict
    assert "(20 rows, same split and transform)" in done.text
    assert done.text.endswith(f"report: {out / 'report.html'}")
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert "log Z" in page
    assert "Mean log-likelihood of the test rows" in page
    assert "kernel density (same transform)" in page
    assert len(page) < 1_000_000
    assert (out / "figure_training.png").stat().st_size > 10_000
    assert {"figure_log_Z.png", "figure_data_against_samples.png", "figure_density.png"} <= {
        path.name for path in out.iterdir()
    }
    assert drl.LikelihoodReport.load(out / "report.nc").verdict == done.verdict


@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
@pytest.mark.usefixtures("few_rows", "quick_evaluation")
def test_a_report_does_not_join_another_run(tiny_density, tmp_path, monkeypatch):
    out = tmp_path / "demo"
    monkeypatch.setattr(demo, "_page", lambda *_: tiny_density.save(out, force=True))
    with pytest.raises(RunFolderError, match="holds another density"):
        demo.run_demo("eight_gaussians", out, settings=TOY, progress=False)
    assert not (out / "report.nc").exists()


def test_errors_are_over_distinct_rows():
    """Two copies of three rows: their averages are 1, 2 and 6, with mean 3 and standard error sqrt(7 / 3)."""
    values = torch.tensor([0.0, 1.0, 5.0, 2.0, 3.0, 7.0])
    mean, error = demo._mean_and_error(values, 3)
    assert mean == pytest.approx(3.0)
    assert error == pytest.approx((7 / 3) ** 0.5)


def test_held_out_figures_of_the_standard_normal_are_its_log_density(tiny_density, tiny_data):
    """log N(T(x); 0, I) + log |dT/dx| averaged over the test rows, which are continuous and thus not dequantised."""
    report = SimpleNamespace(log_z=tiny_density.estimate.log_z)
    table = prepare_table(tiny_data, tiny_density.settings.transform)
    figures = demo.held_out_figures(table, tiny_density, report, seed=0)
    rows = tiny_data.test
    u = table.transform(rows)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(-1) + table.transform.log_abs_det_jacobian(rows, u)
    assert figures["N(0, I) (same transform)"][0] == pytest.approx(float(normal.mean()), rel=1e-5)
    own = figures["its own reference, untouched"]
    model = figures["drl_density"]
    assert own.mean + own.gain == pytest.approx(model.mean)
    assert own.gain_error < model.error  # paired
    assert (model.gain, model.gain_error) == (0.0, 0.0)
    assert figures["drl_density"][0] == pytest.approx(float(tiny_density.log_prob(rows).mean()), rel=1e-5)
