"""The page of a report."""

import xarray as xr

import drl_density as drl
from tests.density.evaluation.sizes import SMALL


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


def test_page_of_a_density_that_is_its_reference(report):
    """Every estimate is 0 without an error, so distances have no errors to be counted in."""
    exact = report.tree.copy(deep=True)
    estimates = exact["estimates"]
    for name in estimates.data_vars:
        if name in ("value", "standard_error"):
            estimates[name].values[:] = 0.0
    exact.attrs |= {"log_z": 0.0}
    (checks,) = (
        table for table in drl.LikelihoodReport(exact).page().tables if table.title == "Why believe it, or not"
    )
    assert "0.000 nats apart, 0.0 standard errors" in {row[1] for row in checks.rows}


def test_levels_that_disagree_have_a_table_in_many_dimensions_alone(report):
    many = report.tree.copy(deep=True)
    columns = {"level": [0.0, 1.0], "noisier_level": [1.0, 2.0], "gap": [6.0, 0.5]}
    columns |= {"standard_error": [0.1, 0.2], "scatter": [3.0, 0.4]}
    many["segments"] = xr.DataTree(xr.Dataset({name: ("segment", values) for name, values in columns.items()}))
    (table,) = (table for table in drl.LikelihoodReport(many).page().tables if table.title == "Which levels disagree")
    assert table.rows[0] == ("0 to 1", "6.000", "0.100", "3.000")
    assert not any(table.title == "Which levels disagree" for table in report.page().tables)


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
