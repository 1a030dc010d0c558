"""Figures of log Z: every estimate, the paths behind them, and what the estimates are for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from drl_density.errors import DataError
from drl_density.plots.canvas import DATA_COLOR, GRAY, SAMPLE_COLOR, WIDE, add_legend, name_rows, new_axes
from drl_density.plots.trees import HasTree, group_of
from drl_density.records.intervals import normal_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLAT = 5e-3
"""Nats below which an axis of log Z is not stretched further: differences of rounding would look like disagreement."""


class Bracketed(Protocol):
    """An estimate of log Z with its interval."""

    @property
    def log_z(self) -> float:
        """The point estimate."""
        ...

    @property
    def lower(self) -> float:
        """Lower end of the interval."""
        ...

    @property
    def upper(self) -> float:
        """Upper end of the interval."""
        ...


def plot_sandwich(report: HasTree, axes: Axes | None = None) -> Axes:
    """Shows every estimate of log Z with its error, bounds as arrows, and the joint interval as a band.

    Estimates that lie far outside the others would squeeze them to a point. They are drawn at the edge, with their values.

    Args:
        report: a likelihood report, or anything with its tree.
        axes: axes to draw into; new ones when None.
    """
    group, attributes = group_of(report, "estimates"), report.tree.attrs
    names: list[str] = group["estimator"].values.tolist()
    axes = new_axes((WIDE[0], 0.6 + 0.34 * len(names))) if axes is None else axes
    values, errors = group["value"].values, normal_quantile() * group["standard_error"].values
    if math.isfinite(attributes["log_z_lower"]):
        axes.axvspan(attributes["log_z_lower"], attributes["log_z_upper"], color=SAMPLE_COLOR, alpha=0.18, linewidth=0)
    axes.axvline(attributes["log_z"], color=SAMPLE_COLOR, linewidth=1)
    low, high = _shown(values, errors, attributes)
    axes.set_xlim(low, high)
    kinds = [next((kind for kind in ("lower", "upper") if name.startswith(kind)), "") for name in names]
    order = sorted(range(len(names)), key=lambda index: (("lower", "", "upper").index(kinds[index]), index))
    for place, index in enumerate(order):
        marker, color = {"lower": (">", GRAY), "upper": ("<", GRAY), "": ("o", DATA_COLOR)}[kinds[index]]
        value, bar = float(values[index]), errors[index] if np.isfinite(errors[index]) else 0.0
        if low <= value <= high:
            axes.errorbar(value, -place, xerr=bar, fmt=marker, color=color, capsize=3, markersize=5)
        elif math.isfinite(value):
            is_left = value < low
            edge = low + 0.02 * (high - low) if is_left else high - 0.02 * (high - low)
            text = f"\u2190 {value:.3g}" if is_left else f"{value:.3g} \u2192"
            side = "left" if is_left else "right"
            axes.annotate(text, (edge, -place), ha=side, va="center", fontsize=8, color=color)
    name_rows(axes, [names[index] for index in order])
    axes.set_xlabel("log Z, nats (bars and band: 95 %)")
    return axes


def _shown(values: np.ndarray, errors: np.ndarray, attributes: Mapping[Any, Any]) -> tuple[float, float]:
    """Ends of the axis: the interval with as much again on both sides, and every estimate that is not far away."""
    known = np.isfinite(values)
    finite, bars = values[known], errors[known]
    middle = attributes["log_z"]
    ends = [end for end in (attributes["log_z_lower"], attributes["log_z_upper"]) if math.isfinite(end)]
    spread = max([abs(end - middle) for end in ends], default=0.0)
    usual = np.median(np.abs(finite - middle)) if len(finite) else 0.0
    close = np.abs(finite - middle) <= 4 * max(spread, usual, FLAT)
    reach = [*ends, *(finite[close] - bars[close]), *(finite[close] + bars[close])]
    reach = [end for end in reach if math.isfinite(end)] or [middle]
    half = 1.08 * max(FLAT, max(abs(end - middle) for end in reach))
    return middle - half, middle + half


def plot_intervals(results: Mapping[str, Bracketed], label: str, axes: Axes | None = None) -> Axes:
    """Shows estimates of log Z with their intervals below each other.

    Args:
        results: estimates of log Z by name.
        label: label of the axis.
        axes: axes to draw into; new ones when None.

    Raises:
        DataError: no estimate.

    >>> from types import SimpleNamespace
    >>> plot_intervals({"a model": SimpleNamespace(log_z=1.0, lower=0.9, upper=1.2)}, "log Z").get_xlabel()
    'log Z'
    """
    if not results:
        raise DataError("expected at least one estimate, got none")
    axes = new_axes((WIDE[0], 0.9 + 0.5 * len(results))) if axes is None else axes
    for place, result in enumerate(results.values()):
        ends = [[result.log_z - result.lower], [result.upper - result.log_z]]
        axes.errorbar(result.log_z, -place, xerr=ends, fmt="o", color=DATA_COLOR, capsize=3, markersize=5)
    name_rows(axes, list(results))
    axes.set(xlabel=label)
    return axes


def plot_rivals(figures: Mapping[str, tuple[float, float]], axes: Axes | None = None) -> Axes:
    """Shows mean log-likelihoods of several densities on the same rows below each other, the first in the model's colour.

    Args:
        figures: mean and standard error of each density, nats per row, by name; NaN where there is no error.
        axes: axes to draw into; new ones when None.

    Raises:
        DataError: no density.

    >>> plot_rivals({"model": (-3.0, 0.1), "Gaussian": (-4.0, 0.2)}).get_xlabel()
    'mean log-likelihood, nats per row (bars: 95 %)'
    """
    if not figures:
        raise DataError("expected at least one density, got none")
    axes = new_axes((WIDE[0], 0.6 + 0.38 * len(figures))) if axes is None else axes
    for place, (mean, error) in enumerate(figures.values()):
        color = DATA_COLOR if place else SAMPLE_COLOR
        bar = normal_quantile() * error if math.isfinite(error) else 0.0
        axes.errorbar(mean, -place, xerr=bar, fmt="o" if place else "D", color=color, capsize=3, markersize=6)
    axes.axvline(next(iter(figures.values()))[0], color=SAMPLE_COLOR, linewidth=0.8, linestyle=":")
    name_rows(axes, list(figures))
    axes.set(xlabel="mean log-likelihood, nats per row (bars: 95 %)")
    return axes


def plot_walks(report: HasTree, axes: Axes | None = None) -> Axes:
    """Plots effective sample size and acceptance along the annealing path.

    Args:
        report: a likelihood report, or anything with its tree.
        axes: axes to draw into; new ones when None.
    """
    axes = new_axes() if axes is None else axes
    walks = group_of(report, "ais")
    levels = walks["level"].values
    for name, label, color in (
        ("ess_fraction", "effective sample size share", SAMPLE_COLOR),
        ("acceptance_rate", "acceptance rate", DATA_COLOR),
    ):
        axes.plot(levels, walks[name].values, color=color, label=label, marker="o", markersize=2.5)
    axes.set(ylim=(0, 1.05), xlabel="level (walks start on the right)", ylabel="share")
    add_legend(axes)
    return axes


def plot_weights(report: HasTree, axes: Axes | None = None) -> Axes:
    """Draws histograms of the log weights of paths in both directions, which cross at log Z.

    Args:
        report: a likelihood report, or anything with its tree.
        axes: axes to draw into; new ones when None.
    """
    axes = new_axes() if axes is None else axes
    paths, log_z = group_of(report, "paths"), float(report.tree.attrs["log_z"])
    everything = np.concatenate([paths[name].values.ravel() for name in paths.data_vars])
    low, high = np.quantile(everything[np.isfinite(everything)], (0.005, 0.995))
    if high - low < FLAT:  # a density whose log Z is known: all weights are equal
        low, high = low - 0.5, high + 0.5
    bins = np.linspace(low, high, 60)
    for name, color in zip(paths.data_vars, (DATA_COLOR, SAMPLE_COLOR, GRAY), strict=False):
        label = str(name).replace("_", " ")
        axes.hist(paths[name].values.ravel(), bins, density=True, histtype="step", color=color, label=label)
    axes.axvline(log_z, color=GRAY, linewidth=1, linestyle=":")
    axes.set(xlabel="log weight of a path, nats (dotted: log Z)", yticks=[])
    add_legend(axes)
    return axes


def plot_overlap(report: HasTree, axes: Axes | None = None) -> Axes:
    """Shows the overlap between densities of the annealing path; a broken diagonal means a gap in the path.

    Args:
        report: a likelihood report, or anything with its tree.
        axes: axes to draw into; new ones when None.
    """
    axes = new_axes((4.2, 3.4)) if axes is None else axes
    overlap = group_of(report, "ais")["overlap"].values
    image = axes.imshow(np.sqrt(overlap), cmap="Blues", vmin=0)
    axes.set(xlabel="density (0: the base)", ylabel="draws of density")
    axes.grid(visible=False)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, label="share explained, square root")
    bar.ax.tick_params(labelsize=8)
    return axes


def plot_segments(report: HasTree, axes: Axes | None = None) -> Axes:
    """Shows by how much neighbouring levels disagree: the gap between both directions of paths, pair by pair.

    Args:
        report: a likelihood report in 48 dimensions or more.
        axes: axes to draw into; new ones when None.

    Raises:
        DataError: a report without gaps.
    """
    if "segments" not in report.tree.children:
        raise DataError("this report has no gaps by pairs of levels: they are measured in 48 dimensions or more")
    axes = new_axes() if axes is None else axes
    group = group_of(report, "segments")
    bars = normal_quantile() * group["standard_error"].values
    places = np.arange(len(bars))
    axes.bar(places, group["gap"].values, yerr=bars, color=DATA_COLOR, ecolor=GRAY, capsize=2)
    axes.axhline(0, color=GRAY, linewidth=0.8)
    labels = [
        f"{low:g}\u2013{high:g}" for low, high in zip(group["level"].values, group["noisier_level"].values, strict=True)
    ]
    axes.set_xticks(places, labels, rotation=60 if len(labels) > 6 else 0, fontsize=8)
    axes.set(xlabel="levels", ylabel="gap, nats (bars: 95 %)")
    return axes
