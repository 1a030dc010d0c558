"""Figures are made for every kind of data, without touching global plotting state."""

import numpy as np
import pytest
import torch
import xarray as xr

from drl_density.plots import plot_data_against_samples, plot_density_2d, plot_training
from drl_density.reports import ReportPage, ReportTable, figure_to_base64

KINDS = {"plane": (2, None), "table": (7, None), "narrow table": (3, None), "images": (64, (8, 8))}


@pytest.mark.parametrize("kind", KINDS)
def test_data_against_samples(kind):
    d, shape = KINDS[kind]
    figure = plot_data_against_samples(torch.randn(200, d), torch.randn(300, d), image_shape=shape)
    assert len(figure.axes) >= 2
    assert len(figure_to_base64(figure)) > 5000


def test_training_and_density():
    history = xr.Dataset(
        {"selected_log_likelihood": ("step", [1.0, 2.0]), "energy_gap": (("step", "level"), np.zeros((2, 4)))},
        coords={"step": [1, 2]},
    )
    assert len(plot_training(history).axes) == 6
    figure = plot_density_2d({"a": lambda x: -x.square().sum(1), "b": lambda x: -x.abs().sum(1)}, num_cells=20)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]


def test_page_escapes_and_shows():
    table = ReportTable("T", ("a",), (("<b>",),))
    page = ReportPage("title", "lead", "reliable", "fine", (table,)).to_html()
    assert "&lt;b&gt;" in page
    assert "log Z reliable" in page
