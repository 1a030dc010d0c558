"""Which transform and which dequantisation a data set gets."""

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
    """(transform from data to model space, dequantisation or None), fitted on the training rows.

    "auto" standardises systems of known density and small images without bounds, takes the logit of columns that are
    all bounded on both sides (pixels), and Gaussianises every column of any other table. "rescale" maps the least and the
    largest value of bounded columns to -1 and 1 (8-bit values v to v / 127.5 - 1), one map for all images.

    Args:
        dataset: whose training rows and columns count.
        kind: "auto", "gaussianize", "standardize", "logit" or "rescale".

    Raises:
        DataError: for an unknown kind, or "logit" or "rescale" without bounds.

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
        margin = 1e-3 * (upper - lower)
        bounded = logit(lower - margin, upper + margin)
        return Composed([bounded, standardize(bounded(rows), weights=dataset.weights)]), dequantization
    if kind == "standardize":
        return standardize(rows, weights=dataset.weights), dequantization
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
