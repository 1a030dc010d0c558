"""Figures of data, samples, training, densities, log Z and chains. Only this room imports matplotlib.

Every function draws with matplotlib and returns its axes: one :class:`~matplotlib.axes.Axes`, or a list of them where the
figure has several. ``axes.figure.savefig("figure.png")`` writes them. Functions of one panel take ``axes`` to draw into.
"""

from drl_density.plots.canvas import DATA_COLOR, GRAY, INK, PAPER, SAMPLE_COLOR, new_axes
from drl_density.plots.chains import plot_chains, plot_occupancy
from drl_density.plots.estimates import (
    plot_intervals,
    plot_overlap,
    plot_rivals,
    plot_sandwich,
    plot_segments,
    plot_walks,
    plot_weights,
)
from drl_density.plots.rows import (
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
from drl_density.plots.training import plot_training

__all__ = [
    "DATA_COLOR",
    "GRAY",
    "INK",
    "PAPER",
    "SAMPLE_COLOR",
    "chosen_columns",
    "new_axes",
    "plot_chains",
    "plot_column",
    "plot_data_against_samples",
    "plot_density_2d",
    "plot_images",
    "plot_intervals",
    "plot_log_likelihood",
    "plot_maps",
    "plot_occupancy",
    "plot_overlap",
    "plot_pair",
    "plot_plane",
    "plot_rivals",
    "plot_sandwich",
    "plot_segments",
    "plot_training",
    "plot_walks",
    "plot_weights",
]
