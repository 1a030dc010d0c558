"""log Z from two sides, and which levels disagree."""

import xarray as xr

import drl_density as drl
from drl_density.density.evaluation.page.estimates import log_z_section, paths_section


def test_every_estimate_is_in_the_figure_the_table_and_the_words(report):
    section = log_z_section(report)
    assert [row[0] for row in section.tables[0].rows] == list(report.estimates)
    assert all(name.value in section.panels[0].alt for name in report.estimates)


def test_levels_that_disagree_are_shown_in_many_dimensions_alone(report):
    many = report.tree.copy(deep=True)
    columns = {"level": [0.0, 1.0], "noisier_level": [1.0, 2.0], "gap": [6.0, 0.5]}
    columns |= {"standard_error": [0.1, 0.2], "scatter": [3.0, 0.4]}
    many["segments"] = xr.DataTree(xr.Dataset({name: ("segment", values) for name, values in columns.items()}))
    section = log_z_section(drl.LikelihoodReport(many))
    (table,) = (table for table in section.tables if table.title == "Which levels disagree")
    assert table.rows[0] == ("0 to 1", "6.000", "0.100", "3.000")
    assert section.panels[1].alt.endswith("0 to 1 6.00, 1 to 2 0.50.")
    few = log_z_section(report)
    assert (len(few.panels), len(few.tables)) == (1, 1)


def test_paths_and_chains_are_behind_the_numbers(report):
    section = paths_section(report)
    assert [table.title for table in section.tables] == ["Long chains", "From rows to nats and bits", "Settings"]
    least = report.values("ais", "ess_fraction").min()
    assert f"at least {least:.2f}" in section.panels[0].alt
