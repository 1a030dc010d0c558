"""Figures of data, samples, training, densities, log Z and chains. Only this module imports matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from drl_density.errors import DataError
from drl_density.records.intervals import normal_quantile

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DATA_COLOR, SAMPLE_COLOR, GRAY = "#33475b", "#d1495b", "#8d99a6"
MOST_POINTS = 1500
"""Points of a scatter plot: more only overlap, and make reports larger."""


def plot_data_against_samples(
    data: Tensor,
    samples: Tensor,
    *,
    names: Sequence[str] | None = None,
    image_shape: tuple[int, int] | None = None,
) -> Figure:
    """Compares held-out rows with draws of the model.

    Args:
        data: held-out rows ``(n, d)``.
        samples: draws of the model, ``(m, d)``.
        names: names of the columns; "x0", ... when not given.
        image_shape: (height, width) if the rows are images.

    Returns:
        Two grids for images, and two scatter plots for two columns. For tables, overlaid histograms of the six columns
        with the largest rank correlations, and scatter plots of the three most correlated pairs.

    Raises:
        DataError: no row in one of them.
    """
    for what, values in (("held-out row", data), ("draw", samples)):
        if not values.numel():
            raise DataError(f"a comparison needs at least one {what}, got shape {tuple(values.shape)}")
    x, y = (values.detach().reshape(len(values), -1).double().numpy() for values in (data, samples))
    names = tuple(names) if names is not None else tuple(f"x{index}" for index in range(x.shape[1]))
    if image_shape is not None:
        return _image_grids(x, y, image_shape)
    if x.shape[1] == 2:
        return _planes(x, y, names)
    return _table(x, y, names)


def plot_maps(maps: Mapping[str, Tensor]) -> Figure:
    """Shows the images ``maps`` ``(height, width)`` next to each other, each with its name and its own colour bar.

    Raises:
        DataError: no image.
    """
    if not maps:
        raise DataError("expected at least one image, got none")
    figure, axes = _figure(1, len(maps), (3.2 * len(maps), 3.0))
    for axis, (name, image) in zip(axes, maps.items(), strict=True):
        shown = axis.imshow(image.detach().double().numpy(), cmap="gray")
        axis.set_title(name.replace("_", " "))
        axis.set_axis_off()
        figure.colorbar(shown, ax=axis, shrink=0.8)
    return figure


def plot_training(history: xr.Dataset) -> Figure:
    """Plots the training curves of ``history``: scores, losses and, by level, gaps, acceptance, steps and constants."""
    figure, axes = _figure(2, 3, (12, 6.2))
    steps = history["step"].values
    _lines(
        axes[0], steps, history, {"selected_log_likelihood": "selected level", "validation_log_likelihood": "level 0"}
    )
    axes[0].set_title("validation log-likelihood, nats (model space)")
    part, title = "classification", "noise-level cross-entropy, nats"
    held_out = "validation_cross_entropy"
    if "validation_contrast" in history:
        part, title, held_out = "contrast", "contrast of data with the reference, nats", "validation_contrast"
    _lines(axes[1], steps, history, {held_out: "held-out", f"loss_{part}": "training"})
    axes[1].set_title(title)
    by_level = {
        "energy_gap": "energy gap F(data) - F(chain end)",
        "acceptance_rate": "acceptance rate",
        "step_size": "step size / conditional scale",
        "log_normalizer": "learned constants c",
    }
    for axis, (name, title) in zip(axes[2:], by_level.items(), strict=True):
        if name in history:
            _level_lines(axis, steps, history[name].values)
        axis.set_title(title)
    for axis in axes:
        axis.set_xlabel("step")
    return figure


def plot_density_2d(
    log_densities: dict[str, Callable[[Tensor], Tensor]], *, extent: float = 5.0, num_cells: int = 200
) -> Figure:
    """Shows densities in the plane on one colour scale.

    Args:
        log_densities: log densities by name, functions of points ``(n, 2)`` with values ``(n,)``.
        extent: half side of the square around the origin.
        num_cells: number of pixels on each side.
    """
    ticks = torch.linspace(-extent, extent, num_cells, dtype=torch.float64)
    points = torch.cartesian_prod(ticks, ticks)
    with torch.no_grad():
        values = {name: f(points).exp().reshape(num_cells, num_cells).T for name, f in log_densities.items()}
    figure, axes = _figure(1, len(values), (4.2 * len(values), 4.2))
    largest = max(float(value.max()) for value in values.values())
    for axis, (name, value) in zip(axes, values.items(), strict=True):
        box = (-extent, extent, -extent, extent)
        axis.imshow(value.numpy(), origin="lower", extent=box, cmap="magma", vmin=0, vmax=largest)
        axis.set_title(name)
        axis.grid(visible=False)
    return figure


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for axis in axes:
        axis.tick_params(labelsize=8, color=GRAY)
        axis.title.set_fontsize(10)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        axis.grid(visible=True, alpha=0.2, linewidth=0.6)
    return figure, axes


def _lines(axis: Axes, steps: np.ndarray, history: xr.Dataset, labels: dict[str, str]) -> None:
    for (name, label), color in zip(labels.items(), (SAMPLE_COLOR, DATA_COLOR), strict=False):
        if name in history:
            axis.plot(steps, history[name].values, color=color, label=label, linewidth=1.6)
    if axis.lines:
        axis.legend(frameon=False, fontsize=8)


def _level_lines(axis: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    from matplotlib import colormaps

    num_levels = values.shape[1]
    for level in range(num_levels):
        color = colormaps["viridis"](level / max(1, num_levels - 1))
        label = f"level {level}" if level in (0, num_levels - 1) else None
        axis.plot(steps, values[:, level], color=color, linewidth=1.1, label=label)
    axis.legend(frameon=False, fontsize=8)


def _image_grids(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> Figure:
    figure, axes = _figure(1, 2, (9, 4.8))
    limits = (float(x.min()), float(x.max()))
    for axis, rows, title in zip(axes, (x, y), ("held-out data", "draws of the model"), strict=True):
        side = min(8, int(math.sqrt(len(rows))))
        tiles = np.full((side * (shape[0] + 1) - 1, side * (shape[1] + 1) - 1), np.nan)
        for index in range(side * side):
            top, left = (index // side) * (shape[0] + 1), (index % side) * (shape[1] + 1)
            tiles[top : top + shape[0], left : left + shape[1]] = rows[index].reshape(shape)
        axis.imshow(tiles, cmap="gray_r", vmin=limits[0], vmax=limits[1])
        axis.set_title(title)
        axis.set_axis_off()
    return figure


def _planes(x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> Figure:
    figure, axes = _figure(1, 2, (9, 4.6))
    for axis, rows, color, title in zip(
        axes, (x, y), (DATA_COLOR, SAMPLE_COLOR), ("held-out data", "draws of the model"), strict=True
    ):
        axis.scatter(*rows[:MOST_POINTS].T, s=5, alpha=0.5, color=color, linewidths=0)
        axis.set(title=title, xlabel=names[0], ylabel=names[1], aspect="equal")
        axis.set_xlim(x[:, 0].min() - 0.3, x[:, 0].max() + 0.3)
        axis.set_ylim(x[:, 1].min() - 0.3, x[:, 1].max() + 0.3)
    return figure


def _table(x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> Figure:
    ranks = _rank_correlations(x)
    columns: list[int] = sorted(np.argsort(-ranks.max(1))[:6].tolist())
    figure, axes = _figure(3, 3, (11, 8.6))
    for axis, column in zip(axes, columns, strict=False):
        bins: list[float] = np.linspace(*_shown_range(x[:, column]), 26).tolist()
        data, draws = (values[(values >= bins[0]) & (values <= bins[-1])] for values in (x[:, column], y[:, column]))
        # A density has no area where every value lies beyond the ends.
        axis.hist(data, bins, density=len(data) > 0, color=DATA_COLOR, alpha=0.35, label="held-out data")
        axis.hist(
            draws, bins, density=len(draws) > 0, histtype="step", color=SAMPLE_COLOR, linewidth=1.6, label="model"
        )
        axis.set_xlabel(names[column], fontsize=9)
        axis.set_yticks([])
    axes[0].legend(frameon=False, fontsize=8)
    upper = np.triu(ranks, 1)
    places = [index for index in np.argsort(-upper, axis=None).tolist() if index // len(upper) < index % len(upper)]
    pairs: list[tuple[int, int]] = [divmod(index, len(upper)) for index in places[:3]]
    for axis, (first, second) in zip(axes[6:], pairs, strict=False):
        axis.scatter(y[:MOST_POINTS, first], y[:MOST_POINTS, second], s=5, alpha=0.4, color=SAMPLE_COLOR, linewidths=0)
        axis.scatter(x[:MOST_POINTS, first], x[:MOST_POINTS, second], s=7, alpha=0.6, color=DATA_COLOR, linewidths=0)
        for values, limits in ((first, axis.set_xlim), (second, axis.set_ylim)):
            limits(*_shown_range(np.concatenate([x[:, values], y[:, values]])))
        axis.set_xlabel(names[first], fontsize=9)
        axis.set_ylabel(names[second], fontsize=9)
    for axis in [*axes[len(columns) : 6], *axes[6 + len(pairs) :]]:
        axis.set_visible(False)
    return figure


def _rank_correlations(x: np.ndarray) -> np.ndarray:
    """Absolute rank correlations of the columns ``(d, d)``, with zeros on the diagonal; all zeros for a single row."""
    ranks = np.zeros((x.shape[1], x.shape[1]))
    if len(x) > 1 and x.shape[1] > 1:
        ranks = np.abs(np.corrcoef(x.argsort(0).argsort(0).T))
        np.fill_diagonal(ranks, 0)
    return ranks


def _shown_range(values: np.ndarray) -> tuple[float, float]:
    """Ends of an axis that shows nearly all ``values``; one unit wide around a single value."""
    low, high = np.quantile(values, (0.002, 0.998)).tolist()
    margin = 0.05 * (high - low)
    return (low - margin, high + margin) if low - margin < high + margin else (low - 0.5, high + 0.5)


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


def _group(tree: xr.DataTree, name: str) -> xr.Dataset:
    return tree.children[name].to_dataset()


def plot_sandwich(tree: xr.DataTree) -> Figure:
    """Shows every estimate of log Z in ``tree`` with its error, bounds as arrows, and the joint interval as a band."""
    figure, (axis,) = _figure(1, 1, (9, 4.2))
    group, attributes = _group(tree, "estimates"), tree.attrs
    names: list[str] = group["estimator"].values.tolist()
    values, errors = group["value"].values, normal_quantile() * group["standard_error"].values
    if math.isfinite(attributes["log_z_lower"]):
        axis.axvspan(attributes["log_z_lower"], attributes["log_z_upper"], color=SAMPLE_COLOR, alpha=0.18, linewidth=0)
    axis.axvline(attributes["log_z"], color=SAMPLE_COLOR, linewidth=1)
    kinds = [next((kind for kind in ("lower", "upper") if name.startswith(kind)), "") for name in names]
    order = sorted(range(len(names)), key=lambda index: (("lower", "", "upper").index(kinds[index]), index))
    for place, index in enumerate(order):
        marker, color = {"lower": (">", GRAY), "upper": ("<", GRAY), "": ("o", DATA_COLOR)}[kinds[index]]
        axis.errorbar(values[index], -place, xerr=errors[index], fmt=marker, color=color, capsize=3, markersize=6)
    axis.set_yticks([-place for place in range(len(names))], [names[index] for index in order], fontsize=9)
    axis.set_xlabel("log Z, nats (bars and band: 95 % intervals)")
    return figure


def plot_weights(tree: xr.DataTree) -> Figure:
    """Plots effective sample size and acceptance along the annealing path, and path weights of both directions."""
    figure, axes = _figure(1, 2, (11, 3.8))
    ais, paths = _group(tree, "ais"), _group(tree, "paths")
    levels = ais["level"].values
    axes[0].plot(levels, ais["ess_fraction"].values, color=SAMPLE_COLOR, label="effective sample size share")
    axes[0].plot(levels, ais["acceptance_rate"].values, color=DATA_COLOR, label="acceptance rate")
    axes[0].set(ylim=(0, 1.02), xlabel="level (start of the walks on the right)", title="along the annealing path")
    axes[0].legend(frameon=False, fontsize=8)
    everything = np.concatenate([paths[name].values.ravel() for name in paths.data_vars])
    low, high = np.quantile(everything[np.isfinite(everything)], (0.005, 0.995))
    bins = np.linspace(low, high, 60)
    for name, color in zip(paths.data_vars, (DATA_COLOR, SAMPLE_COLOR, GRAY), strict=False):
        label = str(name).replace("_", " ")
        axes[1].hist(paths[name].values.ravel(), bins, density=True, histtype="step", color=color, label=label)
    axes[1].axvline(tree.attrs["log_z"], color=GRAY, linewidth=1, linestyle=":")
    axes[1].set(xlabel="log weight, nats", title="log weights of the paths (they cross at log Z)", yticks=[])
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def plot_overlap(tree: xr.DataTree) -> Figure:
    """Shows the overlap between densities of the annealing path; a broken diagonal means a gap in the path."""
    figure, (axis,) = _figure(1, 1, (5.2, 4.6))
    overlap = _group(tree, "ais")["overlap"].values
    image = axis.imshow(np.sqrt(overlap), cmap="Blues", vmin=0)
    axis.set(xlabel="density (0: the base)", ylabel="draws of density", title="share explained, square root")
    axis.grid(visible=False)
    figure.colorbar(image, ax=axis, shrink=0.8)
    return figure


def plot_log_likelihood(tree: xr.DataTree) -> Figure:
    """Draws the histogram of the rows' log-likelihood in ``tree``, with its mean."""
    figure, (axis,) = _figure(1, 1, (9, 3.2))
    values = _group(tree, "log_likelihood")["x"].values.ravel()
    axis.hist(values[np.isfinite(values)], 40, color=DATA_COLOR, alpha=0.5)
    axis.axvline(values.mean(), color=SAMPLE_COLOR, linewidth=1.4)
    axis.set(xlabel="log-likelihood of a row, nats (line: mean)", ylabel="rows")
    return figure


def plot_chains(tree: xr.DataTree) -> Figure:
    """Plots the log density along the long chains in ``tree``, coloured by their starts."""
    figure, (axis,) = _figure(1, 1, (9, 3.2))
    stats = _group(tree, "sample_stats")
    for chain, start in enumerate(stats["start"].values.tolist()):
        color = DATA_COLOR if start == "data" else SAMPLE_COLOR
        label = f"began at {start}" if chain in (0, stats.sizes["chain"] - 1) else None
        axis.plot(stats["draw"].values, stats["lp"].values[chain], color=color, linewidth=0.8, alpha=0.7, label=label)
    axis.set(xlabel="kept draw", ylabel="log density, nats")
    axis.legend(frameon=False, fontsize=8)
    return figure


def plot_occupancy(tree: xr.DataTree) -> Figure:
    """Compares the shares of the data's modes among rows and among draws of the long chains."""
    figure, (axis,) = _figure(1, 1, (7, 3.0))
    group = _group(tree, "occupancy")
    modes = group["mode"].values
    axis.bar(modes - 0.2, group["data"].values, 0.4, color=DATA_COLOR, label="data")
    axis.bar(modes + 0.2, group["chains"].values, 0.4, color=SAMPLE_COLOR, label="chains")
    axis.set(xlabel="mode of the data", ylabel="share", xticks=modes)
    axis.legend(frameon=False, fontsize=8)
    return figure


def plot_intervals(results: Mapping[str, Bracketed], label: str) -> Figure:
    """Shows estimates of log Z with their intervals below each other; ``label`` names the axis.

    Raises:
        DataError: no estimate.
    """
    if not results:
        raise DataError("expected at least one estimate, got none")
    figure, (axis,) = _figure(1, 1, (7, 0.9 + 0.5 * len(results)))
    for place, result in enumerate(results.values()):
        ends = [[result.log_z - result.lower], [result.upper - result.log_z]]
        axis.errorbar(result.log_z, -place, xerr=ends, fmt="o", color=DATA_COLOR, capsize=3, markersize=5)
    axis.set_yticks([-place for place in range(len(results))], list(results), fontsize=9)
    axis.set(xlabel=label, ylim=(0.5 - len(results), 0.5))
    return figure
