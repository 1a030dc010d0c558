"""Figures of rows: data beside draws, images, densities in the plane, and log-likelihoods."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from drl_density.errors import DataError
from drl_density.plots.canvas import DATA_COLOR, NARROW, SAMPLE_COLOR, add_legend, axes_grid, new_axes
from drl_density.plots.trees import HasTree, group_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = np.ndarray | Tensor
"""Rows or values of one column, on the CPU."""

MOST_POINTS = 1500
"""Points of a scatter plot: more only overlap, and make reports larger."""
MOST_COLUMNS, MOST_PAIRS = 6, 3
"""Columns and pairs of columns that a comparison of a table shows."""


def plot_data_against_samples(
    data: Tensor,
    samples: Tensor,
    *,
    names: Sequence[str] | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> list[Axes]:
    """Compares held-out rows with draws of the model.

    Args:
        data: held-out rows ``(n, d)``.
        samples: draws of the model, ``(m, d)``.
        names: names of the columns; "x0", ... when not given.
        image_shape: ``(height, width)`` or ``(channels, height, width)`` if the rows are images.

    Returns:
        Axes of one figure: two grids for images, and two scatter plots for two columns. For tables, overlaid histograms of
        the six columns with the largest rank correlations, and scatter plots of the three most correlated pairs.

    Raises:
        DataError: no row in one of them.

    >>> [axes.get_title() for axes in plot_data_against_samples(torch.eye(2), torch.eye(2))]
    ['held-out data', 'draws of the model']
    """
    x, y = flat_rows(data, samples)
    names = tuple(names) if names is not None else tuple(f"x{index}" for index in range(x.shape[1]))
    if image_shape is not None:
        axes = axes_grid(1, 2, (9, 4.8))
        limits = (float(x.min()), float(x.max()))
        for axis, rows, title in zip(axes, (x, y), ("held-out data", "draws of the model"), strict=True):
            plot_images(rows, image_shape, limits=limits, axes=axis).set_title(title)
        return axes
    if x.shape[1] == 2:
        axes = axes_grid(1, 2, (9, 4.6))
        plot_plane(x, x, names, axes=axes[0])
        plot_plane(y, x, names, is_model=True, axes=axes[1])
        return axes
    columns, pairs = chosen_columns(x)
    axes = axes_grid(3, 3, (11, 8.6))
    for axis, column in zip(axes, columns, strict=False):
        plot_column(x[:, column], y[:, column], names[column], has_legend=axis is axes[0], axes=axis)
    for axis, pair in zip(axes[6:], pairs, strict=False):
        plot_pair(x[:, pair], y[:, pair], [names[column] for column in pair], has_legend=False, axes=axis)
    for axis in [*axes[len(columns) : 6], *axes[6 + len(pairs) :]]:
        axis.set_visible(False)
    return axes


def flat_rows(data: Tensor, samples: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Rows and draws as arrays ``(n, d)`` and ``(m, d)``.

    Args:
        data: held-out rows.
        samples: draws of the model.

    Raises:
        DataError: no row in one of them.
    """
    for what, values in (("held-out row", data), ("draw", samples)):
        if not values.numel():
            raise DataError(f"a comparison needs at least one {what}, got shape {tuple(values.shape)}")
    x, y = (values.detach().reshape(len(values), -1).double().numpy() for values in (data, samples))
    return x, y


def chosen_columns(x: Values) -> tuple[list[int], list[list[int]]]:
    """The columns with the largest rank correlations, six at most, and the most correlated pairs, three at most.

    Args:
        x: rows ``(n, d)``, at least one.

    >>> chosen_columns(np.array([[0.0, 1.0, 5.0], [1.0, 2.0, 4.0], [2.0, 3.0, 6.0]]))[1][0]
    [0, 1]
    """
    ranks = _rank_correlations(np.asarray(x, dtype=np.float64))
    columns: list[int] = sorted(np.argsort(-ranks.max(1))[:MOST_COLUMNS].tolist())
    upper = np.triu(ranks, 1)
    places = [index for index in np.argsort(-upper, axis=None).tolist() if index // len(upper) < index % len(upper)]
    return columns, [list(divmod(index, len(upper))) for index in places[:MOST_PAIRS]]


def plot_column(data: Values, samples: Values, name: str, *, has_legend: bool = True, axes: Axes | None = None) -> Axes:
    """Draws histograms of one column over each other: data filled, draws of the model as a line.

    Args:
        data: held-out values of the column, ``(n,)``.
        samples: drawn values of the column, ``(m,)``.
        name: name of the column.
        has_legend: whether both are named in the figure.
        axes: axes to draw into; new ones when None.

    >>> plot_column(np.arange(9.0), np.arange(5.0), "mass").get_xlabel()
    'mass'
    """
    axes = new_axes(NARROW) if axes is None else axes
    data, samples = (np.asarray(values, dtype=np.float64) for values in (data, samples))
    bins: list[float] = np.linspace(*_shown_range(data), 1 + _num_bins(len(data), most=25)).tolist()
    shown, drawn = (values[(values >= bins[0]) & (values <= bins[-1])] for values in (data, samples))
    # A density has no area where every value lies beyond the ends.
    axes.hist(shown, bins, density=len(shown) > 0, color=DATA_COLOR, alpha=0.45, label="held-out data")
    axes.hist(drawn, bins, density=len(drawn) > 0, histtype="step", color=SAMPLE_COLOR, linewidth=1.6, label="model")
    axes.set_xlabel(name)
    axes.set_yticks([])
    if has_legend:
        add_legend(axes)
    return axes


def plot_pair(
    data: Values, samples: Values, names: Sequence[str], *, has_legend: bool = True, axes: Axes | None = None
) -> Axes:
    """Scatters two columns: draws of the model with the data over them.

    Args:
        data: held-out values ``(n, 2)``.
        samples: drawn values ``(m, 2)``.
        names: names of both columns.
        has_legend: whether both are named in the figure.
        axes: axes to draw into; new ones when None.

    >>> plot_pair(np.eye(2), np.eye(2), ["mass", "size"]).get_ylabel()
    'size'
    """
    axes = new_axes(NARROW) if axes is None else axes
    data, samples = (np.asarray(values, dtype=np.float64) for values in (data, samples))
    for rows, color, size, alpha, label in (
        (samples, SAMPLE_COLOR, 5, 0.4, "model"),
        (data, DATA_COLOR, 7, 0.6, "held-out data"),
    ):
        axes.scatter(
            *rows[:MOST_POINTS].T, s=size, alpha=alpha, color=color, linewidths=0, label=label, rasterized=True
        )
    for place, limits in ((0, axes.set_xlim), (1, axes.set_ylim)):
        limits(*_shown_range(np.concatenate([data[:, place], samples[:, place]])))
    axes.set(xlabel=names[0], ylabel=names[1])
    if has_legend:
        add_legend(axes)
    return axes


def plot_plane(
    rows: Values,
    data: Values,
    names: Sequence[str],
    *,
    is_model: bool = False,
    axes: Axes | None = None,
) -> Axes:
    """Scatters points in the plane on the data's axes.

    Args:
        rows: points ``(n, 2)``, of the data or of the model.
        data: held-out points, whose range is shown.
        names: names of both columns.
        is_model: whether the points are draws of the model.
        axes: axes to draw into; new ones when None.

    >>> plot_plane(np.eye(2), np.eye(2), ["mass", "size"]).get_title()
    'held-out data'
    """
    axes = new_axes((3.6, 3.4)) if axes is None else axes
    rows, data = (np.asarray(values, dtype=np.float64) for values in (rows, data))
    color, title = (SAMPLE_COLOR, "draws of the model") if is_model else (DATA_COLOR, "held-out data")
    axes.scatter(*rows[:MOST_POINTS].T, s=5, alpha=0.5, color=color, linewidths=0, rasterized=True)
    axes.set(title=title, xlabel=names[0], ylabel=names[1], aspect="equal")
    axes.set_xlim(data[:, 0].min() - 0.3, data[:, 0].max() + 0.3)
    axes.set_ylim(data[:, 1].min() - 0.3, data[:, 1].max() + 0.3)
    return axes


def plot_images(
    images: Values,
    image_shape: Sequence[int],
    *,
    limits: tuple[float, float] | None = None,
    columns: int | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Tiles images with a gap between them, in rows; three channels are colours, and of other numbers the mean is shown.

    Args:
        images: flat images ``(n, d)``.
        image_shape: ``(height, width)`` or ``(channels, height, width)``.
        limits: values shown as the darkest and the brightest; those of the images when not given.
        columns: images in a row; when not given, the largest square of at most 8 by 8 images.
        axes: axes to draw into; new ones when None.

    Raises:
        DataError: no image, or rows of another size.

    >>> plot_images(np.zeros((4, 6)), (2, 3)).images[0].get_array().shape
    (5, 7)
    """
    images = np.asarray(images, dtype=np.float64)
    shape = (1, *image_shape) if len(image_shape) == 2 else tuple(image_shape)
    if not len(images) or images.shape[1] != math.prod(shape):
        raise DataError(f"expected at least one image of {math.prod(shape)} values, got shape {images.shape}")
    side = columns or min(8, math.isqrt(len(images)))
    across = min(side, len(images))
    down = side if columns is None else math.ceil(len(images) / across)
    low, high = limits or (float(images.min()), float(images.max()))
    tiles = np.full((down * (shape[1] + 1) - 1, across * (shape[2] + 1) - 1, shape[0]), np.nan)
    for index in range(min(len(images), down * across)):
        top, left = (index // across) * (shape[1] + 1), (index % across) * (shape[2] + 1)
        tiles[top : top + shape[1], left : left + shape[2]] = images[index].reshape(shape).transpose(1, 2, 0)
    axes = new_axes((3.4, 3.4 * tiles.shape[0] / tiles.shape[1] + 0.3)) if axes is None else axes
    if shape[0] == 3:
        shades = np.clip((tiles - low) / max(high - low, 1e-12), 0, 1)  # values beyond the limits have no colour
        axes.imshow(np.where(np.isnan(tiles), 1.0, shades), interpolation="nearest")  # the gaps are white
    else:
        axes.imshow(tiles.mean(2), cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")
    axes.set_axis_off()
    return axes


def plot_maps(maps: Mapping[str, Tensor]) -> list[Axes]:
    """Shows images next to each other, each with its name and its own colour bar.

    Args:
        maps: images ``(height, width)`` by name.

    Returns:
        Axes of one figure, one for each image.

    Raises:
        DataError: no image.

    >>> plot_maps({"posterior_mean": torch.eye(3)})[0].get_title()
    'posterior mean'
    """
    if not maps:
        raise DataError("expected at least one image, got none")
    axes = axes_grid(1, len(maps), (3.2 * len(maps), 3.0))
    for axis, (name, image) in zip(axes, maps.items(), strict=True):
        shown = axis.imshow(image.detach().double().numpy(), cmap="gray")
        axis.set_title(name.replace("_", " "))
        axis.set_axis_off()
        axis.figure.colorbar(shown, ax=axis, shrink=0.8)
    return axes


def plot_density_2d(
    log_densities: Mapping[str, Callable[[Tensor], Tensor]], *, extent: float = 5.0, num_cells: int = 200
) -> list[Axes]:
    """Shows densities in the plane on one colour scale.

    Args:
        log_densities: log densities by name, functions of points ``(n, 2)`` with values ``(n,)``.
        extent: half side of the square around the origin.
        num_cells: number of pixels on each side.

    Returns:
        Axes of one figure, one for each density.

    >>> plot_density_2d({"Gaussian": lambda x: -x.square().sum(1)}, num_cells=5)[0].get_title()
    'Gaussian'
    """
    ticks = torch.linspace(-extent, extent, num_cells, dtype=torch.float64)
    points = torch.cartesian_prod(ticks, ticks)
    with torch.no_grad():
        values = {name: f(points).exp().reshape(num_cells, num_cells).T for name, f in log_densities.items()}
    axes = axes_grid(1, len(values), (4.2 * len(values), 4.2))
    largest = max(float(value.max()) for value in values.values())
    for axis, (name, value) in zip(axes, values.items(), strict=True):
        box = (-extent, extent, -extent, extent)
        axis.imshow(value.numpy(), origin="lower", extent=box, cmap="magma", vmin=0, vmax=largest)
        axis.set_title(name)
        axis.grid(visible=False)
    return axes


def plot_log_likelihood(report: HasTree, axes: Axes | None = None) -> Axes:
    """Draws the histogram of the rows' log-likelihood, with its mean.

    Args:
        report: a likelihood report, or anything with its tree.
        axes: axes to draw into; new ones when None.
    """
    axes = new_axes() if axes is None else axes
    values = group_of(report, "log_likelihood")["x"].values.ravel()
    axes.hist(values[np.isfinite(values)], _num_bins(len(values), most=40), color=DATA_COLOR, alpha=0.6)
    axes.axvline(values.mean(), color=SAMPLE_COLOR, linewidth=1.4)
    axes.set(xlabel="log-likelihood of a row, nats (line: mean)", ylabel="rows")
    return axes


def _num_bins(num_values: int, *, most: int) -> int:
    """Bars of a histogram: fewer for few values, each of which would have a bar of its own."""
    return max(8, min(most, math.ceil(2 * math.sqrt(num_values))))


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
