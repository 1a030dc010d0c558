"""Axes, colours and the names of rows."""

from matplotlib.colors import to_rgb

from drl_density.plots.canvas import (
    ABOVE,
    DATA_COLOR,
    GRAY,
    INK,
    SAMPLE_COLOR,
    add_legend,
    axes_grid,
    name_rows,
    new_axes,
)
from tests.processes import run


def lightness(color):
    """Relative luminance, as the guidelines for accessible pages define it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_colours_stand_out_on_white_and_differ_without_hue():
    contrast = {color: 1.05 / (lightness(color) + 0.05) for color in (DATA_COLOR, SAMPLE_COLOR, GRAY, INK)}
    assert min(contrast.values()) >= 3
    assert abs(lightness(DATA_COLOR) - lightness(SAMPLE_COLOR)) > 0.05


def test_axes_of_one_figure():
    axes = axes_grid(2, 3, (6, 4))
    assert len({id(axis.figure) for axis in axes}) == 1
    assert tuple(axes[0].figure.get_size_inches()) == (6, 4)
    assert not axes[0].spines["top"].get_visible()


def test_rows_are_named_above_their_points():
    axes = new_axes()
    name_rows(axes, ["first", "second"])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert axes.get_yticks().tolist() == [ABOVE, ABOVE - 1]
    low, high = axes.get_ylim()
    assert low < -1 < ABOVE < high


def test_a_legend_has_no_frame():
    axes = new_axes()
    axes.plot([0, 1], label="a line")
    add_legend(axes)
    assert not axes.get_legend().get_frame_on()


def test_pyplot_stays_out():
    code = "import sys, torch; from drl_density.plots import plot_maps\nplot_maps({'a': torch.zeros(2, 2)});"
    code += " assert 'matplotlib.figure' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    done = run(code)
    assert done.returncode == 0, done.stderr
