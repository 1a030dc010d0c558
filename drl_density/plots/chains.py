"""Figures of long chains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drl_density.plots.canvas import DATA_COLOR, SAMPLE_COLOR, add_legend, new_axes
from drl_density.plots.trees import HasTree, group_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_chains(found: HasTree, axes: Axes | None = None) -> Axes:
    """Plots the log density along long chains, coloured by their starts.

    Args:
        found: a likelihood report or a diagnosis.
        axes: axes to draw into; new ones when None.
    """
    axes = new_axes() if axes is None else axes
    stats = group_of(found, "sample_stats")
    for chain, start in enumerate(stats["start"].values.tolist()):
        color = DATA_COLOR if start == "data" else SAMPLE_COLOR
        label = f"began at {start}" if chain in (0, stats.sizes["chain"] - 1) else None
        draws, values = stats["draw"].values, stats["lp"].values[chain]
        # As vectors, some thousand draws of 64 chains would be most of a page.
        axes.plot(draws, values, color=color, linewidth=0.8, alpha=0.7, label=label, rasterized=True)
    axes.set(xlabel="kept draw", ylabel="log density, nats")
    add_legend(axes)
    return axes


def plot_occupancy(found: HasTree, axes: Axes | None = None) -> Axes:
    """Compares the shares of the data's modes among rows and among draws of the long chains.

    Args:
        found: a diagnosis, or anything with its tree.
        axes: axes to draw into; new ones when None.
    """
    axes = new_axes() if axes is None else axes
    group = group_of(found, "occupancy")
    modes = group["mode"].values
    axes.bar(modes - 0.2, group["data"].values, 0.4, color=DATA_COLOR, label="data")
    axes.bar(modes + 0.2, group["chains"].values, 0.4, color=SAMPLE_COLOR, label="chains")
    axes.set(xlabel="mode of the data", ylabel="share", xticks=modes)
    add_legend(axes)
    return axes
