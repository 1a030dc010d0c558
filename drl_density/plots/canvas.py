"""Axes to draw into, and the colours of all figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DATA_COLOR, SAMPLE_COLOR, GRAY, INK = "#0072b2", "#d55e00", "#767f88", "#22303c"
"""Blue and vermilion can be distinguished by colour-blind readers, on white and on black. Source: Okabe and Ito 2008."""
PAPER = "#ffffff"
"""Colour behind text that crosses lines."""
ABOVE = 0.2
"""How far the name of a row stands above its points, in rows."""
WIDE, NARROW = (4.2, 2.7), (3.2, 2.5)
"""Sizes of a figure in inches: text stays readable where a page on a telephone shows the first in its whole width."""


def new_axes(size: tuple[float, float] = WIDE) -> Axes:
    """Axes of a new figure, without pyplot and its global state.

    Args:
        size: width and height in inches.

    >>> new_axes().figure.axes[0].get_title()
    ''
    """
    (axes,) = axes_grid(1, 1, size)
    return axes


def axes_grid(rows: int, columns: int, size: tuple[float, float]) -> list[Axes]:
    """Axes of one new figure, row by row.

    Args:
        rows: number of rows.
        columns: number of columns.
        size: width and height of the figure in inches.

    >>> len(axes_grid(2, 3, (6, 4)))
    6
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    found = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for axes in found:
        axes.tick_params(labelsize=9, color=GRAY, labelcolor=INK)
        axes.title.set_fontsize(10)
        axes.title.set_color(INK)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_fontsize(9)
            label.set_color(INK)
        for side in axes.spines.values():
            side.set_color(GRAY)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.grid(visible=True, alpha=0.2, linewidth=0.6)
    return found


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows 0, -1, -2, ... of a figure inside it, above their points, so that long names leave the width to them.

    Args:
        axes: axes whose rows are a unit apart.
        names: names from top to bottom.
    """
    axes.set_yticks([ABOVE - place for place in range(len(names))], list(names))
    axes.tick_params(axis="y", length=0, pad=-3, labelsize=8.5)
    axes.locator_params(axis="x", nbins=5)
    for label in axes.get_yticklabels():
        label.set(ha="left", va="bottom", bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.5})
    axes.set_ylim(0.5 - len(names), 1.0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")


def add_legend(axes: Axes) -> None:
    """A legend without a frame, so that it hides nothing.

    Args:
        axes: axes with labelled lines or points.
    """
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
