"""Draws beside data, and the strangest rows."""

import numpy as np
import xarray as xr

import drl_density as drl
from drl_density.density.evaluation.page.rows import MOST_STRANGE, outliers_section, samples_section


def wider(report, num_columns=8, shape=None):
    """The report with more columns, of which two depend on each other."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(report.num_rows, num_columns))
    rows[:, 3] = rows[:, 1] + 0.1 * rows[:, 3]
    rows[5, 2] = 40.0
    tree = report.tree.copy(deep=True)
    names = [f"column {index}" for index in range(num_columns)]
    for group, sizes in {"observed_data": ("obs_id", "feature"), "draws": ("draw", "feature")}.items():
        variables = {"x": (sizes, rows)}
        if group == "observed_data":
            variables["width"] = ("feature", np.zeros(num_columns))
        tree[group] = xr.DataTree(xr.Dataset(variables, coords={"feature": names}))
    chains = np.tile(rows[None, :10], (8, 1, 1))
    tree["posterior"] = xr.DataTree(
        xr.Dataset({"x": (("chain", "draw", "feature"), chains)}, coords={"feature": names})
    )
    values = -np.square(rows).sum(1)
    tree["log_likelihood"] = xr.DataTree(xr.Dataset({"x": (("chain", "draw", "obs_id"), values[None, None])}))
    if shape is not None:
        tree.attrs["event_shape"] = shape
    return drl.LikelihoodReport(tree)


def test_two_columns_are_scattered(report):
    section = samples_section(report)
    assert [panel.axes.get_title() for panel in section.panels] == ["held-out data", "draws of the model"]


def test_tables_show_the_columns_that_depend_most_on_others(report):
    section = samples_section(wider(report))
    names = [panel.axes.get_xlabel() for panel in section.panels]
    assert {"column 1", "column 3"} <= set(names[:6])
    assert (names[6], section.panels[6].axes.get_ylabel()) == ("column 1", "column 3")
    assert "Shown are the 6 of 8 columns" in section.words[0]
    assert section.panels[0].axes.get_legend() is not None
    assert all(panel.axes.get_legend() is None for panel in section.panels[1:])


def test_images_are_shown_as_pictures_with_long_chains(report):
    pictures = wider(report, shape="1x2x4")
    assert pictures.image_shape == (1, 2, 4)
    titles = [panel.title for panel in samples_section(pictures).panels]
    assert titles == ["Data.", "Draws of the model.", "Long chains of the model."]
    strange = [panel.title for panel in outliers_section(pictures).panels]
    assert strange == ["Log-likelihood of the rows.", "Strangest images.", "Most typical images."]
    given = samples_section(wider(report), image_shape=(2, 4))
    assert len(given.panels) == 3


def test_the_strangest_row_comes_first_with_the_cell_that_makes_it_strange(report):
    (table,) = outliers_section(wider(report)).tables
    assert len(table.rows) == min(MOST_STRANGE, report.num_rows)
    row, _, against, cells = table.rows[0]
    assert row == "5"
    assert float(against) < -1000
    assert cells.startswith("column 2 40 (+")


def test_a_constant_column_is_no_reason(report):
    constant = wider(report)
    constant.tree["observed_data"]["x"].values[:, 0] = 1.0
    (table,) = outliers_section(constant).tables
    assert all("column 0" not in row[3] for row in table.rows)
    assert samples_section(constant).panels
