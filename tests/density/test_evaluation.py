"""``Density.evaluate``: the report, its tree, its page, and comparisons."""

import dataclasses
import math
import shutil
import subprocess
import warnings

import matplotlib.image
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from sklearn.mixture import GaussianMixture

import drl_density as drl
from drl_density.errors import DataError, RunFolderError

SMALL = drl.SandwichSettings(num_particles=64, num_replicates=4, num_mixing_steps=10, path_steps_per_level=12)

LEAST = drl.SandwichSettings(num_particles=16, num_replicates=2, num_mixing_steps=2, path_steps_per_level=4)


@pytest.fixture(scope="module")
def report(tiny_density, tiny_data):
    return tiny_density.evaluate(tiny_data.test, seed=0, settings=SMALL)


def test_interval_holds_the_quadrature(report, tiny_density):
    """exp(F + log Jacobian) summed over the plane is Z: the interval and bracket must hold its logarithm."""
    ticks = torch.linspace(-16, 40, 700, dtype=torch.float64)
    first = torch.linspace(-14, 14, 700, dtype=torch.float64)
    grid = torch.cartesian_prod(first, ticks)
    log_z = float((tiny_density.log_prob(grid) + tiny_density.estimate.log_z).logsumexp(0))
    log_z += math.log((28 / 699) * (56 / 699))
    assert report.verdict in ("reliable", "doubtful")
    error = report.tree.attrs["log_z_standard_error"]
    assert abs(report.log_z - log_z) < 5 * error + 1e-3
    assert report.tree.attrs["bracket_lower"] < log_z < report.tree.attrs["bracket_upper"]


def test_numbers_hang_together(report, tiny_density, tiny_data):
    assert report.log_z_lower < report.log_z < report.log_z_upper
    assert report.mean_log_likelihood_lower < report.mean_log_likelihood < report.mean_log_likelihood_upper
    width = report.log_z_upper - report.log_z_lower
    assert report.mean_log_likelihood_upper - report.mean_log_likelihood_lower == pytest.approx(width)
    assert report.log_likelihood.shape == (len(tiny_data.test),)
    normalized = tiny_density.distribution().normalize(report)
    torch.testing.assert_close(normalized.log_prob(tiny_data.test), report.log_likelihood, rtol=1e-6, atol=1e-6)
    assert report.bits_per_dim == pytest.approx(-report.mean_log_likelihood / 2 / math.log(2))
    torch.testing.assert_close(
        report.log_likelihood_upper - report.log_likelihood_lower, torch.full((40,), width).double()
    )


def test_audit_trail_adds_up(report):
    """Mean F + mean log |det J| - log Z is the mean log-likelihood, figure by figure as the trail prints them."""
    attributes = report.tree.attrs
    total = attributes["mean_model_log_density"] + attributes["mean_log_jacobian"] - report.log_z
    assert total == pytest.approx(report.mean_log_likelihood, abs=1e-9)
    trail = "\n".join(report.audit_trail)
    for figure in (attributes["mean_model_log_density"], attributes["mean_log_jacobian"], report.bits_per_dim):
        assert f"{figure:.4f}" in trail
    assert report.scheme in trail


def test_few_particles_bound_what_other_densities_cost(tiny_density, tiny_data, monkeypatch):
    """Annealing and diffusion samplers see as many rows as there are particles, beside the model on the same rows."""
    from drl_density.density.evaluation.sections import other_densities as evaluation

    pilots = []

    def watched(path, settings, *, generator):
        pilots.append(settings.num_pilot_particles)
        return plan(path, settings, generator=generator)

    plan = evaluation.plan_annealing
    monkeypatch.setattr(evaluation, "plan_annealing", watched)
    with warnings.catch_warnings():  # so few particles are not reliable
        warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
        found = tiny_density.evaluate(tiny_data.test, seed=0, settings=LEAST)
    others = found.tree["other_densities"]["mean_log_likelihood"]
    names = [str(name) for name in others["density"].values]
    assert pilots == [LEAST.num_particles]
    assert sum(name.endswith(f"first {LEAST.num_particles} rows") for name in names) == 4
    own = others.sel(density=f"energy-based model, first {LEAST.num_particles} rows")
    assert float(own) == pytest.approx(float(found.log_likelihood[: LEAST.num_particles].mean()))


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


def test_page_shows_verdict_and_figures(report, tmp_path):
    page = report.to_html(tmp_path / "report.html").read_text()
    assert page.count("data:image/png") == 5
    assert report.verdict in page
    assert "Bennett" in page
    assert page.index("In words") < page.index("data:image/png") < page.index("Why believe it, or not")
    assert ">seed</td>" in page
    for name in ("annealing sampler", "diffusion sampler", "probability flow", "learned constant"):
        assert name in page
    assert "http" not in page


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(3, 5), "expected rows of shape"),
        (torch.zeros(0, 2), "expected at least one row"),
        (torch.tensor([[0.0, math.nan]]), "NaN or infinite"),
    ],
    ids=["another shape", "no rows", "NaN"],
)
def test_bad_rows_are_refused(tiny_density, rows, message):
    with pytest.raises(DataError, match=message):
        tiny_density.evaluate(rows)


def test_comparison_is_paired(tiny_density, tiny_data, report):
    x = tiny_data.test
    mixture = GaussianMixture(2, random_state=0).fit(tiny_data.train.numpy())
    flat = dist.Normal(torch.zeros(2).double(), 20.0).to_event(1)
    rows = drl.compare({"report": report, "density": tiny_density, "mixture": mixture, "flat": flat}, x)
    assert rows[0].difference == 0
    by_hand = report.log_likelihood - torch.as_tensor(mixture.score_samples(x.numpy()))
    assert rows[2].difference == pytest.approx(float(by_hand.mean()))
    assert rows[2].standard_error == pytest.approx(float(by_hand.std()) / math.sqrt(len(x)))
    with pytest.raises(DataError, match="other rows"):
        drl.compare({"report": report, "flat": flat}, x.flip(0))
    with pytest.raises(DataError, match="evaluate these"):
        drl.compare({"report": report, "flat": flat}, x[:5])
    with pytest.raises(DataError, match="neither log_prob"):
        drl.compare({"a": tiny_density, "b": 3}, x)
    with pytest.raises(DataError, match="at least two"):
        drl.compare({"a": tiny_density}, x)


def test_reports_of_different_schemes_refuse_to_be_compared(report, tiny_data):
    dequantised = report.tree.copy()
    dequantised.attrs["scheme"] = (
        "log density in data units, rows dequantised once by uniform noise of widths 1 (2 columns)"
    )
    with pytest.raises(DataError, match="different schemes do not compare"):
        drl.compare({"a": report, "b": drl.LikelihoodReport(dequantised)}, tiny_data.test)


def test_others_are_scored_on_the_rows_of_the_report(report, tiny_data):
    """Rows dequantised for the report are the rows of its rivals too; a flow gets them in its own dtype."""
    x = tiny_data.test
    moved = report.tree.copy()
    noise = torch.full((40, 2), 0.2, dtype=torch.float64)
    moved["observed_data"]["x"] = moved["observed_data"]["x"] + 0.2
    moved["observed_data"]["width"] = moved["observed_data"]["width"] + 0.5

    class Flow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.location = torch.nn.Parameter(torch.zeros(2))

        def forward(self):
            return dist.Normal(self.location, 1.0).to_event(1)

    flow = Flow()
    rows = drl.compare({"report": drl.LikelihoodReport(moved), "flow": flow}, x)
    assert rows[1].mean == pytest.approx(float(flow().log_prob((x + noise).float()).mean().detach()), abs=1e-5)


def test_slow_chains_are_explained_with_the_run_that_settles_them(report):
    doubted = report.tree.copy(deep=True)
    place = doubted["estimates"]["estimator"].values.tolist().index("Bennett's ratio, draws from data")
    doubted["estimates"]["value"].values[place] = report.log_z - 0.5
    doubted.attrs |= {"verdict": "doubtful", "autocorrelation_time": 300.0}
    page = drl.LikelihoodReport(doubted).page()
    text = next(text for text in page.words if text.startswith("Why the doubt"))
    assert "0.50 lower" in text
    assert "--mixing-steps 600" in text
    assert f"these took {SMALL.num_mixing_steps}." in text
    assert not any(text.startswith("Why the doubt") for text in report.page().words)


def test_an_untrained_model_is_said_to_be_one(tiny_density, tiny_data):
    untrained = dataclasses.replace(
        tiny_density, provenance=dataclasses.replace(tiny_density.provenance, best_step={"gaussian-0": 0})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
        evaluated = untrained.evaluate(tiny_data.test[:5], settings=LEAST)
    assert "untrained" in evaluated.summary()
    page = evaluated.page()
    assert any("untrained" in text for text in page.words)
    assert "untrained" in page.appendix


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
