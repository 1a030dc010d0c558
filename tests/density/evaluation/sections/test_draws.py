"""Draws kept in a report."""

import numpy as np
import torch

from drl_density.density.evaluation.sections.draws import MOST_DRAWS, ReportDraws


def test_stored_draws_are_kept_up_to_a_number(tiny_density, report):
    found = ReportDraws(tiny_density).groups()["draws"]
    kept = min(MOST_DRAWS, len(tiny_density.pool))
    np.testing.assert_array_equal(found["x"].values, tiny_density.pool[:kept].numpy().astype(np.float32))
    assert report.draws.shape == (kept, tiny_density.num_features)
    assert report.draws.dtype == torch.float64


def test_the_shape_of_a_data_point_is_kept(tiny_density, report):
    assert ReportDraws(tiny_density).attributes() == {"event_shape": "2"}
    assert report.image_shape is None
