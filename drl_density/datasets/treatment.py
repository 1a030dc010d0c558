"""Chooses the transform and the dequantisation of a data set."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.datasets.dataset import Dataset
from drl_density.errors import DataError
from drl_density.transforms import (
    Affine,
    Composed,
    DataTransform,
    Dequantization,
    fit_grid_histograms,
    fit_marginal_gaussianization,
    logit,
    standardize,
)

TREATMENTS = ("auto", "histogram", "gaussianize", "standardize", "logit", "rescale")

MOST_CELLS = 256
"""Values of a grid that every column may have for a table of histograms: the grey levels of 8-bit images."""


def choose_transform(dataset: Dataset, *, kind: str = "auto") -> tuple[DataTransform, Dequantization | None]:
    """Fits the transform from data to model space, and the dequantisation if any column is rounded, to training rows.

    "auto" maps columns that share one grid of up to 256 values between two bounds, as pixels do, each through its smoothed
    histogram to N(0, 1). It standardises systems of known density and arrays of images without bounds, takes the logit of
    images and tables whose columns all have a grid and two bounds of their own, and Gaussianises the columns of any other
    table.
    "rescale" maps the least and the largest value of bounded columns to -1 and 1, so that 8-bit values v become
    v / 127.5 - 1. Only "gaussianize" makes the density zero between the cells of a closed support.

    Args:
        dataset: data set whose columns and training rows decide.
        kind: "auto", "histogram", "gaussianize", "standardize", "logit" or "rescale".

    Raises:
        DataError: an unknown kind, "histogram" without a common grid, or "logit" or "rescale" without bounds.

    >>> from drl_density.datasets import load_dataset
    >>> data = load_dataset("banana", seed=0, num_rows=100)
    >>> transform, dequantization = choose_transform(data)
    >>> transform(data.train).shape, dequantization
    (torch.Size([80, 2]), None)
    """
    if kind not in TREATMENTS:
        raise DataError(f"transform must be one of {TREATMENTS}, got {kind!r}")
    widths = torch.tensor([column.width for column in dataset.columns], dtype=torch.float64)
    dequantization = Dequantization(widths) if bool((widths > 0).any()) else None
    rows = dataset.train
    if dequantization is not None:
        rows = dequantization(rows, generator=torch.Generator().manual_seed(0))
    lower, upper = _ends(dataset)
    is_bounded = bool(lower.isfinite().all() and upper.isfinite().all())
    if kind == "auto":
        kind = "gaussianize"
        is_pixels = all(column.width and not column.is_closed for column in dataset.columns)
        if is_pixels and _common_grid(dataset) is not None:
            kind = "histogram"
        elif is_bounded and (is_pixels or len(dataset.event_shape) > 1):
            kind = "logit"
        elif dataset.known_log_density is not None or len(dataset.event_shape) > 1:
            kind = "standardize"
    if kind == "histogram":
        grid = _common_grid(dataset)
        if grid is None:
            raise DataError(
                f'transform "histogram" needs columns on one grid of at most {MOST_CELLS} values between two bounds, as '
                "8-bit images have: declare them, or give images as uint8 arrays of grey levels 0..255"
            )
        return fit_grid_histograms(dataset.train, **grid._asdict(), weights=dataset.weights), dequantization
    if kind == "rescale":
        if not is_bounded:
            raise DataError(
                'transform "rescale" needs lower and upper bounds for every column: declare them, or give images as uint8 '
                "arrays of grey levels 0..255, which have them"
            )
        least, largest = lower + widths / 2, upper - widths / 2
        span = largest - least
        return Affine(-(least + largest) / span, 2 / span), dequantization
    if kind == "logit":
        if not is_bounded:
            raise DataError('transform "logit" needs lower and upper bounds for every column; declare them')
        # Values in the outer cells of a grid would lie far out without a margin; a continuous column keeps its bounds.
        margin = torch.where(widths > 0, 1e-3 * (upper - lower), 0.0)
        bounded = logit(lower - margin, upper + margin)
        return Composed([bounded, standardize(bounded(rows), weights=dataset.weights)]), dequantization
    if kind == "standardize":
        return standardize(rows, weights=dataset.weights), dequantization
    return (
        fit_marginal_gaussianization(
            rows,
            widths=widths,
            lower=lower,
            upper=upper,
            is_positive=torch.tensor([c.is_positive for c in dataset.columns])
            & (torch.where(rows.isnan(), math.inf, rows).amin(0) > 0),
            supports=[column.values for column in dataset.columns],
            weights=dataset.weights,
            names=[column.name for column in dataset.columns],
            values=dataset.train,
        ),
        dequantization,
    )


class _Grid(NamedTuple):
    """Values that all columns share: the lowest, their distance, and their number."""

    first: float
    width: float
    num_cells: int


def _common_grid(dataset: Dataset) -> _Grid | None:
    """The grid of all columns, if it is one, has two bounds, few values, and holds every row; else None."""
    grids = {(column.width, *column.cell_ends) for column in dataset.columns}
    if len(grids) != 1 or dataset.has_missing_values:
        return None
    width, lower, upper = grids.pop()
    if not width or not math.isfinite(upper - lower) or any(column.is_closed for column in dataset.columns):
        return None
    num_cells = round((upper - lower) / width)
    if not 1 < num_cells <= MOST_CELLS or abs(num_cells * width - (upper - lower)) > 1e-6 * width:
        return None
    low, high = _ends(dataset)
    return _Grid(lower + 0.5 * width, width, num_cells) if bool((low == lower).all() and (high == upper).all()) else None


def _ends(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Ends between which the dequantised values of every column lie, ``(d,)`` each; infinite without bounds.

    Rows within the bounds that miss the grid of their column, of which there may be a few, widen its ends.
    """
    lower, upper = torch.tensor([column.cell_ends for column in dataset.columns], dtype=torch.float64).T
    half = torch.tensor([0.5 * column.width for column in dataset.columns], dtype=torch.float64)
    is_open_grid = torch.tensor([bool(column.width) and not column.is_closed for column in dataset.columns])
    for rows in (dataset.train, dataset.validation, dataset.test):
        if not len(rows) or not rows.is_floating_point():
            continue
        least = torch.where(rows.isnan(), math.inf, rows).amin(0) - half
        largest = torch.where(rows.isnan(), -math.inf, rows).amax(0) + half
        lower = torch.where(is_open_grid & lower.isfinite(), lower.minimum(least), lower)
        upper = torch.where(is_open_grid & upper.isfinite(), upper.maximum(largest), upper)
    return lower, upper
