"""Figures show what they are given: labels, points, lines, bands and images; no global plotting state is touched."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from drl_density.plots import (
    MOST_POINTS,
    plot_chains,
    plot_data_against_samples,
    plot_density_2d,
    plot_intervals,
    plot_log_likelihood,
    plot_maps,
    plot_occupancy,
    plot_overlap,
    plot_sandwich,
    plot_training,
    plot_weights,
)
from drl_density.records.intervals import normal_quantile
from drl_density.reports import figure_to_base64
from drl_density.testing import seeded_generator
from tests.processes import run


def titles(figure):
    return [axis.get_title() for axis in figure.axes]


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded_generator(seed))


def test_two_columns_are_scattered_side_by_side_on_the_datas_axes():
    data, samples = normal(200, 2), normal(MOST_POINTS + 100, 2, seed=1)
    figure = plot_data_against_samples(data, samples, names=["mass", "size"])
    assert titles(figure) == ["held-out data", "draws of the model"]
    for axis, rows in zip(figure.axes, (data, samples[:MOST_POINTS]), strict=True):
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("mass", "size")
        np.testing.assert_array_equal(axis.collections[0].get_offsets(), rows.double())
    assert figure.axes[1].get_xlim() == pytest.approx((float(data[:, 0].min()) - 0.3, float(data[:, 0].max()) + 0.3))
    assert len(figure_to_base64(figure)) > 5000


def test_a_table_shows_its_six_most_correlated_columns_and_its_three_closest_pairs():
    shared, data = normal(400, 3, seed=2), normal(400, 8)
    pairs = [(0, 5, 0.1), (2, 7, 0.3), (3, 4, 0.6)]
    for index, (first, second, noise) in enumerate(pairs):
        data[:, first] = shared[:, index] + noise * data[:, first]
        data[:, second] = shared[:, index] + noise * data[:, second]
    figure = plot_data_against_samples(data, normal(300, 8, seed=1))
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert labels[:6] == ["x0", "x2", "x3", "x4", "x5", "x7"]
    assert [(axis.get_xlabel(), axis.get_ylabel()) for axis in figure.axes[6:]] == [
        (f"x{first}", f"x{second}") for first, second, _ in pairs
    ]
    assert legend(figure.axes[0]) == ["held-out data", "model"]
    # The bars of a density histogram have area 1, less the four values in a thousand beyond the ends.
    bars = figure.axes[0].patches[:25]
    assert sum(bar.get_width() * bar.get_height() for bar in bars) == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_array_equal(figure.axes[6].collections[1].get_offsets(), data[:, [0, 5]].double())


def test_a_narrow_table_hides_what_it_has_no_columns_for():
    figure = plot_data_against_samples(normal(50, 3), normal(50, 3, seed=1))
    assert [axis.get_visible() for axis in figure.axes[:6]] == [True] * 3 + [False] * 3


def test_images_are_tiled_with_a_gap():
    data, samples = torch.arange(9 * 6.0).reshape(9, 6), normal(20, 6)
    figure = plot_data_against_samples(data, samples, image_shape=(2, 3))
    tiles = figure.axes[0].images[0].get_array()
    assert tiles.shape == (3 * 3 - 1, 3 * 4 - 1)
    np.testing.assert_array_equal(tiles[3:5, 8:11], data[5].reshape(2, 3))
    assert bool(np.ma.getmaskarray(np.ma.masked_invalid(tiles))[2].all())
    assert figure.axes[1].images[0].get_clim() == (0.0, 53.0)


def test_maps_have_names_and_colour_bars():
    maps = {"posterior_mean": normal(4, 5), "error": normal(4, 5, seed=1)}
    figure = plot_maps(maps)
    assert titles(figure)[:2] == ["posterior mean", "error"]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), maps["error"].double())
    assert len(figure.axes) == 4


def test_training_curves_are_those_of_the_history():
    gaps = np.arange(8.0).reshape(2, 4)
    history = xr.Dataset(
        {
            "selected_log_likelihood": ("step", [1.0, 2.0]),
            "loss_classification": ("step", [0.5, 0.4]),
            "energy_gap": (("step", "level"), gaps),
        },
        coords={"step": [10, 20]},
    )
    axes = plot_training(history).axes
    assert legend(axes[0]) == ["selected level"]
    assert axes[0].lines[0].get_xydata().tolist() == [[10.0, 1.0], [20.0, 2.0]]
    assert legend(axes[1]) == ["training"]
    assert [line.get_ydata().tolist() for line in axes[2].lines] == gaps.T.tolist()
    assert legend(axes[2]) == ["level 0", "level 3"]
    assert axes[2].get_title().startswith("energy gap")
    assert not axes[3].lines
    assert {axis.get_xlabel() for axis in axes} == {"step"}


def test_densities_share_one_scale_and_are_the_right_way_up():
    def left(x):
        return -(x - torch.tensor([-2.0, 1.0])).square().sum(1)

    figure = plot_density_2d({"left": left, "low": lambda x: left(x) - 1}, extent=4.0, num_cells=81)
    assert titles(figure) == ["left", "low"]
    images = [axis.images[0] for axis in figure.axes]
    assert images[0].get_clim() == images[1].get_clim() == (0.0, 1.0)
    assert images[0].get_extent() == [-4.0, 4.0, -4.0, 4.0]
    # Row and column of the peak: y = 1 and x = -2 on a grid of 0.1 from -4.
    assert np.unravel_index(images[0].get_array().argmax(), (81, 81)) == (50, 20)
    np.testing.assert_allclose(images[1].get_array(), images[0].get_array() * np.exp(-1), rtol=1e-6)


def sandwich_tree(lower=0.5):
    ais = {"ess_fraction": ("level", [0.9, 0.5]), "acceptance_rate": ("level", [0.6, 0.7])}
    ais["overlap"] = (("density", "other"), np.array([[0.64, 0.36], [0.25, 0.75]]))
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"log_z": 1.0, "log_z_lower": lower, "log_z_upper": 1.5}),
            "estimates": xr.Dataset(
                {"value": ("estimator", [1.4, 0.6, 1.0]), "standard_error": ("estimator", [0.1, 0.2, 0.05])},
                coords={"estimator": ["upper, reverse", "lower, annealing", "bridge"]},
            ),
            "ais": xr.Dataset(ais, coords={"level": [0, 1]}),
            "paths": xr.Dataset(
                {"forward_log_weights": ("path", np.linspace(-1, 1, 50)), "reverse": ("path", np.linspace(0, 2, 50))}
            ),
            "log_likelihood": xr.Dataset({"x": ("row", [-3.0, -1.0, -2.0])}),
            "sample_stats": xr.Dataset(
                {"lp": (("chain", "draw"), np.arange(6.0).reshape(2, 3)), "start": ("chain", ["data", "noise"])},
                coords={"draw": [0, 5, 10]},
            ),
            "occupancy": xr.Dataset(
                {"data": ("mode", [0.3, 0.7]), "chains": ("mode", [0.4, 0.6])}, coords={"mode": [0, 1]}
            ),
        }
    )


def test_a_sandwich_orders_its_estimates_and_shows_the_interval():
    (axis,) = plot_sandwich(sandwich_tree()).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["lower, annealing", "bridge", "upper, reverse"]
    assert axis.get_yticks().tolist() == [0, -1, -2]
    found = {
        container.lines[0].get_marker(): container.lines[0].get_xydata()[0].tolist() for container in axis.containers
    }
    assert found == {">": [0.6, 0.0], "o": [1.0, -1.0], "<": [1.4, -2.0]}
    segment = axis.containers[1].lines[2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(segment, [1 - 0.05 * normal_quantile(), 1 + 0.05 * normal_quantile()], rtol=1e-12)
    band = axis.patches[0].get_extents().transformed(axis.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((0.5, 1.5))
    assert not plot_sandwich(sandwich_tree(lower=-np.inf)).axes[0].patches


def test_weights_and_overlap():
    figure = plot_weights(sandwich_tree())
    assert legend(figure.axes[0]) == ["effective sample size share", "acceptance rate"]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0.9, 0.5]
    assert legend(figure.axes[1]) == ["forward log weights", "reverse"]
    assert figure.axes[1].lines[0].get_xdata() == [1.0, 1.0]
    image = plot_overlap(sandwich_tree()).axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), [[0.8, 0.6], [0.5, 0.75**0.5]], rtol=1e-12)


def test_log_likelihoods_chains_and_occupancy():
    (axis,) = plot_log_likelihood(sandwich_tree()).axes
    assert axis.lines[0].get_xdata() == [-2.0, -2.0]
    assert sum(bar.get_height() for bar in axis.patches) == 3
    (axis,) = plot_chains(sandwich_tree()).axes
    assert legend(axis) == ["began at data", "began at noise"]
    assert axis.lines[1].get_xydata().tolist() == [[0.0, 3.0], [5.0, 4.0], [10.0, 5.0]]
    (axis,) = plot_occupancy(sandwich_tree()).axes
    assert [bar.get_height() for bar in axis.patches] == [0.3, 0.7, 0.4, 0.6]
    assert legend(axis) == ["data", "chains"]


def test_intervals_stand_below_each_other():
    results = {
        "with a slope": SimpleNamespace(log_z=-3.0, lower=-3.5, upper=-2.0),
        "without": SimpleNamespace(log_z=-5.0, lower=-5.1, upper=-4.9),
    }
    (axis,) = plot_intervals(results, "log evidence, nats").axes
    assert axis.get_xlabel() == "log evidence, nats"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["with a slope", "without"]
    assert axis.containers[0].lines[2][0].get_segments()[0][:, 0].tolist() == [-3.5, -2.0]


def test_pyplot_stays_out():
    code = "import sys, torch; from drl_density.plots import plot_maps\nplot_maps({'a': torch.zeros(2, 2)});"
    code += " assert 'matplotlib.figure' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    done = run(code)
    assert done.returncode == 0, done.stderr
