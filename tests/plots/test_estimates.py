"""Figures of log Z: estimates in order, bounds as arrows, the interval as a band."""

from types import SimpleNamespace

import numpy as np
import pytest

from drl_density.errors import DataError
from drl_density.plots.estimates import (
    plot_intervals,
    plot_overlap,
    plot_rivals,
    plot_sandwich,
    plot_segments,
    plot_walks,
    plot_weights,
)
from drl_density.records.intervals import normal_quantile


def names_of(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_a_sandwich_orders_its_estimates_and_shows_the_interval(report_like):
    axes = plot_sandwich(report_like())
    assert names_of(axes) == ["lower, annealing", "bridge", "upper, reverse"]
    found = {
        container.lines[0].get_marker(): container.lines[0].get_xydata()[0].tolist() for container in axes.containers
    }
    assert found == {">": [0.6, 0.0], "o": [1.0, -1.0], "<": [1.4, -2.0]}
    segment = axes.containers[1].lines[2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(segment, [1 - 0.05 * normal_quantile(), 1 + 0.05 * normal_quantile()], rtol=1e-12)
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((0.5, 1.5))
    assert not plot_sandwich(report_like(-np.inf)).patches


def test_an_estimate_far_away_stands_at_the_edge_with_its_value(report_like):
    far = report_like()
    far.tree["estimates"]["value"].values[1] = -379.0
    axes = plot_sandwich(far)
    low, high = axes.get_xlim()
    assert low > -3
    assert high < 5
    assert [text.get_text() for text in axes.texts] == ["\u2190 -379"]
    assert len(axes.containers) == 2


def test_walks_weights_and_overlap(report_like):
    axes = plot_walks(report_like())
    assert legend(axes) == ["effective sample size share", "acceptance rate"]
    assert axes.lines[0].get_ydata().tolist() == [0.9, 0.5]
    axes = plot_weights(report_like())
    assert legend(axes) == ["forward log weights", "reverse"]
    assert axes.lines[0].get_xdata() == [1.0, 1.0]
    image = plot_overlap(report_like()).images[0]
    np.testing.assert_allclose(image.get_array(), [[0.8, 0.6], [0.5, 0.75**0.5]], rtol=1e-12)


def test_equal_weights_are_one_bar_in_the_middle(report_like):
    exact = report_like()
    for name in exact.tree["paths"].data_vars:
        exact.tree["paths"][name].values[:] = 0.0
    low, high = plot_weights(exact).get_xlim()
    assert low < -0.4
    assert high > 0.4


def test_segments_show_which_levels_disagree(report_like):
    axes = plot_segments(report_like())
    assert [bar.get_height() for bar in axes.patches] == [6.0, 0.5]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0\u20131", "1\u20132"]
    few = report_like()
    del few.tree["segments"]
    with pytest.raises(DataError, match="48 dimensions"):
        plot_segments(few)


def test_intervals_stand_below_each_other():
    results = {
        "with a slope": SimpleNamespace(log_z=-3.0, lower=-3.5, upper=-2.0),
        "without": SimpleNamespace(log_z=-5.0, lower=-5.1, upper=-4.9),
    }
    axes = plot_intervals(results, "log evidence, nats")
    assert axes.get_xlabel() == "log evidence, nats"
    assert names_of(axes) == ["with a slope", "without"]
    assert axes.containers[0].lines[2][0].get_segments()[0][:, 0].tolist() == [-3.5, -2.0]


def test_rivals_stand_below_the_model():
    axes = plot_rivals({"model": (-3.0, 0.1), "Gaussian": (-4.0, np.nan)})
    assert names_of(axes) == ["model", "Gaussian"]
    ends = axes.containers[0].lines[2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, [-3 - 0.1 * normal_quantile(), -3 + 0.1 * normal_quantile()], rtol=1e-12)
    assert axes.containers[1].lines[2][0].get_segments()[0][:, 0].tolist() == [-4.0, -4.0]
    with pytest.raises(DataError, match="at least one density"):
        plot_rivals({})
