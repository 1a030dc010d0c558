"""Figures of rows show what they are given: labels, points, bars and images."""

import numpy as np
import pytest
import torch

from drl_density.errors import DataError
from drl_density.plots.rows import (
    MOST_POINTS,
    chosen_columns,
    plot_column,
    plot_data_against_samples,
    plot_density_2d,
    plot_images,
    plot_log_likelihood,
    plot_maps,
    plot_pair,
    plot_plane,
)
from drl_density.reports import figure_to_png
from drl_density.testing import seeded_generator


def titles(axes):
    return [axis.get_title() for axis in axes]


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded_generator(seed))


def test_two_columns_are_scattered_side_by_side_on_the_datas_axes():
    data, samples = normal(200, 2), normal(MOST_POINTS + 100, 2, seed=1)
    axes = plot_data_against_samples(data, samples, names=["mass", "size"])
    assert titles(axes) == ["held-out data", "draws of the model"]
    for axis, rows in zip(axes, (data, samples[:MOST_POINTS]), strict=True):
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("mass", "size")
        np.testing.assert_array_equal(axis.collections[0].get_offsets(), rows.double())
    assert axes[1].get_xlim() == pytest.approx((float(data[:, 0].min()) - 0.3, float(data[:, 0].max()) + 0.3))
    assert len(figure_to_png(axes[0].figure)) > 5000


def test_a_table_shows_its_six_most_correlated_columns_and_its_three_closest_pairs():
    shared, data = normal(400, 3, seed=2), normal(400, 8)
    pairs = [(0, 5, 0.1), (2, 7, 0.3), (3, 4, 0.6)]
    for index, (first, second, noise) in enumerate(pairs):
        data[:, first] = shared[:, index] + noise * data[:, first]
        data[:, second] = shared[:, index] + noise * data[:, second]
    axes = plot_data_against_samples(data, normal(300, 8, seed=1))
    labels = [axis.get_xlabel() for axis in axes]
    assert labels[:6] == ["x0", "x2", "x3", "x4", "x5", "x7"]
    assert [(axis.get_xlabel(), axis.get_ylabel()) for axis in axes[6:]] == [
        (f"x{first}", f"x{second}") for first, second, _ in pairs
    ]
    assert legend(axes[0]) == ["held-out data", "model"]
    # The bars of a density histogram have area 1, less the four values in a thousand beyond the ends.
    bars = axes[0].patches[:25]
    assert sum(bar.get_width() * bar.get_height() for bar in bars) == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_array_equal(axes[6].collections[1].get_offsets(), data[:, [0, 5]].double())


def test_a_narrow_table_hides_what_it_has_no_columns_for():
    axes = plot_data_against_samples(normal(50, 3), normal(50, 3, seed=1))
    assert [axis.get_visible() for axis in axes[:6]] == [True] * 3 + [False] * 3


def test_images_are_tiled_with_a_gap():
    data, samples = torch.arange(9 * 6.0).reshape(9, 6), normal(20, 6)
    axes = plot_data_against_samples(data, samples, image_shape=(2, 3))
    tiles = axes[0].images[0].get_array()
    assert tiles.shape == (3 * 3 - 1, 3 * 4 - 1)
    np.testing.assert_array_equal(tiles[3:5, 8:11], data[5].reshape(2, 3))
    assert bool(np.ma.getmaskarray(np.ma.masked_invalid(tiles))[2].all())
    assert axes[1].images[0].get_clim() == (0.0, 53.0)


def test_maps_have_names_and_colour_bars():
    maps = {"posterior_mean": normal(4, 5), "error": normal(4, 5, seed=1)}
    axes = plot_maps(maps)
    assert titles(axes) == ["posterior mean", "error"]
    np.testing.assert_array_equal(axes[1].images[0].get_array(), maps["error"].double())
    assert len(axes[0].figure.axes) == 4


def test_densities_share_one_scale_and_are_the_right_way_up():
    def left(x):
        return -(x - torch.tensor([-2.0, 1.0])).square().sum(1)

    axes = plot_density_2d({"left": left, "low": lambda x: left(x) - 1}, extent=4.0, num_cells=81)
    assert titles(axes) == ["left", "low"]
    images = [axis.images[0] for axis in axes]
    assert images[0].get_clim() == images[1].get_clim() == (0.0, 1.0)
    assert images[0].get_extent() == [-4.0, 4.0, -4.0, 4.0]
    # Row and column of the peak: y = 1 and x = -2 on a grid of 0.1 from -4.
    assert np.unravel_index(images[0].get_array().argmax(), (81, 81)) == (50, 20)
    np.testing.assert_allclose(images[1].get_array(), images[0].get_array() * np.exp(-1), rtol=1e-6)


def test_columns_and_pairs_are_drawn_alone():
    data, draws = normal(60, 2), normal(80, 2, seed=1).numpy()
    axes = plot_column(data[:, 0], draws[:, 0], "mass")
    assert (axes.get_xlabel(), legend(axes)) == ("mass", ["held-out data", "model"])
    assert plot_column(data[:, 0], draws[:, 0], "mass", has_legend=False).get_legend() is None
    axes = plot_pair(data, draws, ["mass", "size"])
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), draws.astype(float))
    assert legend(axes) == ["model", "held-out data"]
    axes = plot_plane(draws, data, ["mass", "size"], is_model=True)
    assert axes.get_title() == "draws of the model"
    assert plot_plane(data, data, ["mass", "size"], axes=axes) is axes


def test_one_pair_is_chosen_of_two_columns():
    columns, pairs = chosen_columns(normal(30, 2))
    assert (columns, pairs) == ([0, 1], [[0, 1]])


def test_colours_and_other_channels():
    images = torch.rand((2, 12), generator=seeded_generator(0))
    shown = np.asarray(plot_images(images, (3, 2, 2), columns=2).images[0].get_array())
    assert shown.shape == (2, 5, 3)
    low, high = float(images.min()), float(images.max())
    np.testing.assert_allclose(
        shown[:, :2], (images[0].reshape(3, 2, 2).permute(1, 2, 0) - low) / (high - low), rtol=1e-5
    )
    assert (shown[:, 2] == 1).all()
    grey = plot_images(images, (2, 2, 3), columns=2).images[0].get_array()
    np.testing.assert_allclose(grey[:, :3], images[0].double().reshape(2, 2, 3).mean(0), rtol=1e-12)
    with pytest.raises(DataError, match="at least one image of 12 values, got shape"):
        plot_images(images[:0], (3, 2, 2))


def test_log_likelihoods_have_a_bar_for_every_row(report_like):
    axes = plot_log_likelihood(report_like())
    assert axes.lines[0].get_xdata() == [-2.0, -2.0]
    assert sum(bar.get_height() for bar in axes.patches) == 3
