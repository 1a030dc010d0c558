"""The page of a report: its order, its key figures, and doubts in words."""

import math

import numpy as np
import xarray as xr

import drl_density as drl
from drl_density.density.evaluation.page.likelihood_page import likelihood_page
from drl_density.density.evaluation.sections.report_chains import BASE_START
from drl_density.reports import ReportSection
from tests.density.evaluation.sizes import SMALL

ORDER = (
    "Likelihood beside rivals",
    "Gain over the reference",
    "log Z from two sides",
    "What was checked",
    "What was not checked",
    "Samples beside data",
    "Outliers",
    "Behind the numbers",
)


def changed(report, **attributes):
    """The report with other attributes."""
    tree = report.tree.copy(deep=True)
    tree.attrs |= attributes
    return drl.LikelihoodReport(tree)


def test_the_page_has_its_parts_in_order_and_stays_small(report, tmp_path):
    titles = [section.title for section in report.page().sections]
    assert titles == [name for name in ORDER if name in titles]
    assert set(ORDER) - set(titles) <= {"Gain over the reference"}
    html = report.to_html(tmp_path / "report.html").read_text()
    assert f"log Z {report.verdict}</span>" in html
    assert html.index("In words") < html.index("<dl") < html.index("<svg") < html.index("What was checked")
    assert ">seed</td>" in html
    for name in ("Bennett", "annealing sampler", "diffusion sampler", "probability flow", "learned constant"):
        assert name in html
    assert "http" not in html
    assert len(html) < 1_000_000


def test_a_density_that_is_its_reference_has_no_walks_to_judge(report):
    """log Z is 0 exactly, so the page states that once, and shows no estimates, walks or doubts of it."""
    exact = report.tree.copy(deep=True)
    stats = exact["sample_stats"].to_dataset()
    starts = np.full(stats.sizes["chain"], BASE_START)
    exact["sample_stats"] = xr.DataTree(stats.assign_coords(start=("chain", starts)))
    exact.attrs |= {"verdict": "reliable"}
    sections = {section.title: section for section in drl.LikelihoodReport(exact).page().sections}
    assert "log Z from two sides" not in sections
    assert (sections["log Z"].panels, sections["log Z"].tables) == ((), ())
    assert [row[0] for row in sections["What was checked"].tables[0].rows] == ["Is the model better than one Gaussian?"]
    assert not any("walks" in text for text in sections["What was not checked"].items)
    assert sections["Behind the numbers"].panels == ()
    assert "known without an error" in drl.LikelihoodReport(exact).page().words[0]


def test_every_figure_says_in_words_what_it_shows(report):
    panels = [panel for section in report.page().sections for panel in section.panels]
    assert len(panels) >= 7
    assert all(panel.alt.endswith(".") and len(panel.alt) > 20 for panel in panels)


def test_key_figures_have_their_errors(report):
    figures = {figure.name: figure for figure in report.page().key_figures}
    mean = figures["mean log-likelihood, nats per row"]
    assert mean.number == f"{report.mean_log_likelihood:.3f}"
    assert f"{report.mean_log_likelihood_lower:.3f} to {report.mean_log_likelihood_upper:.3f}" in mean.detail
    assert "bits per dimension" not in figures
    unknown = changed(report, log_z_lower=-math.inf, log_z_upper=math.inf, verdict="unknown").page()
    assert {figure.detail for figure in unknown.key_figures if figure.name == "log Z, nats"} == {
        "95 % interval: not known"
    }


def test_whole_numbers_of_one_range_have_bits_per_dimension(report):
    pixels = changed(report, declared_range="0..255").page()
    assert any(figure.name == "bits per dimension" for figure in pixels.key_figures)
    (table,) = (table for section in pixels.sections for table in section.tables if table.title == "Bits per dimension")
    terms = [float(row[1]) for row in table.rows[:4]]
    assert math.isclose(sum(terms), float(table.rows[4][1]), abs_tol=2.1e-4)  # each is rounded to 4 digits


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


def test_a_caller_gives_its_own_rivals_and_further_sections(report):
    page = likelihood_page(
        report, title="A", lead="B", rivals=ReportSection("Mine"), further=[ReportSection("Last")], appendix="C"
    )
    titles = [section.title for section in page.sections]
    assert (page.title, page.lead, titles[0], titles[-1]) == ("A", "B", "Mine", "Last")
    assert "Likelihood beside rivals" not in titles
    assert page.appendix.startswith("C\n\nmean log-likelihood")
