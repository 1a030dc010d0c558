"""Chooses the transform and the dequantisation of a data set."""

from __future__ import annotations

import math

import torch

from drl_density.datasets.dataset import Dataset
from drl_density.errors import DataError
from drl_density.transforms import (
    Affine,
    Composed,
    DataTransform,
    Dequantization,
    fit_marginal_gaussianization,
    logit,
    standardize,
)

TREATMENTS = ("auto", "gaussianize", "standardize", "logit", "rescale")


def choose_transform(dataset: Dataset, *, kind: str = "auto") -> tuple[DataTransform, Dequantization | None]:
    """Fits the transform from data to model space, and the dequantisation if any column is rounded, to training rows.

    "auto" standardises systems of known density and arrays of images without bounds. It takes the logit if all columns
    are bounded on both sides, as pixels are, and Gaussianises the columns of any other table. "rescale" maps the least
    and the largest value of bounded columns to -1 and 1, so that 8-bit values v become v / 127.5 - 1.

    Args:
        dataset: data set whose columns and training rows decide.
        kind: "auto", "gaussianize", "standardize", "logit" or "rescale".

    Raises:
        DataError: an unknown kind, or "logit" or "rescale" without bounds.

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
    lower, upper = (
        torch.tensor([getattr(column, name) for column in dataset.columns], dtype=torch.float64)
        for name in ("lower", "upper")
    )
    is_bounded = bool(lower.isfinite().all() and upper.isfinite().all())
    if kind == "auto":
        kind = "gaussianize"
        if is_bounded:
            kind = "logit"
        elif dataset.known_log_density is not None or len(dataset.event_shape) > 1:
            kind = "standardize"
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
        # Without a margin a value at an end would map to infinity, and the few values next to it far out.
        margin = 1e-3 * (upper - lower)
        bounded = logit(lower - margin, upper + margin)
        return Composed([bounded, standardize(bounded(rows), weights=dataset.weights)]), dequantization
    if kind == "standardize":
        return standardize(rows, weights=dataset.weights), dequantization
    # Noise of half a width reaches beyond the declared ends; 1e-9 keeps its extremes strictly inside.
    half = widths / 2
    return (
        fit_marginal_gaussianization(
            rows,
            widths=widths,
            lower=torch.where(lower > -math.inf, lower - half - 1e-9, lower),
            upper=torch.where(upper < math.inf, upper + half + 1e-9, upper),
            is_positive=torch.tensor([c.is_positive for c in dataset.columns])
            & (torch.where(rows.isnan(), math.inf, rows).amin(0) > 0),
            weights=dataset.weights,
            names=[column.name for column in dataset.columns],
        ),
        dequantization,
    )
