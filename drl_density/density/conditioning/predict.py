r"""One column given the others: its normalised density by quadrature, with mean, quantiles and label probabilities.

The slice :math:`p(y \mid x) \propto \exp F_0(T(y, x))\,\lvert u_y'(y)\rvert` has one dimension, so its normaliser is an
integral over a grid in model space. Labels and other values of closed supports in x stand for their whole cells: numerator
and normaliser are averaged over the same points in them. Where other columns are missing too, the conditional is averaged
over draws of them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drl_density.density.conditioning.cells import cell_positions, given_in_cells
from drl_density.density.conditioning.column_slices import MOST_ROWS, NUM_POINTS, ColumnSlices, Contexts
from drl_density.density.conditioning.prediction import Prediction
from drl_density.density.conditioning.rows import blocks_of, check_given, sample_in_blocks
from drl_density.density.data_units import on_support
from drl_density.density.fitted import FittedModel
from drl_density.errors import DataError
from drl_density.inverse_problems import ConditionalResult, ConditionalSettings
from drl_density.records.fields import is_number
from drl_density.records.given import given_or_default

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_PLACES = 16
"""Points over which the cells of given labels are averaged; their spread is in the standard error."""
NUM_CONTEXTS = 64
"""Draws of other missing cells over which a prediction is averaged; their spread is in the standard error."""


def predict(
    density: FittedModel,
    rows: Any,
    column: int | str,
    *,
    quantiles: Sequence[float] = QUANTILES,
    settings: ConditionalSettings | None = None,
    generator: torch.Generator | None = None,
) -> Prediction:
    """See :meth:`drl_density.density.Density.predict`."""
    place = density.column_index(column)
    if density.num_features == 1:
        raise DataError(
            f"{density.columns[place].name!r} is the only column of this density, so no other column predicts it: use "
            "log_prob for the density of its values, and sample for draws"
        )
    x = density.rows(rows, missing="keep", absent=[density.columns[place].name], least=0)
    levels = _levels(quantiles)
    if not len(x):
        # Labels and shapes are those of any row.
        middle = on_support(density.columns, density.middle[None], density.bounds)
        stand_in = predict(density, middle, column, quantiles=levels, settings=settings, generator=generator)
        return _joined([(torch.arange(0), stand_in)])
    hidden = x.isnan()
    hidden[:, place] = True
    if bool(hidden.all(1).any()):
        row = int(hidden.all(1).nonzero()[0])
        raise DataError(
            f"row {row}: every column but {density.columns[place].name!r} is missing, so nothing predicts it: leave the row "
            "out; density.marginal has the distribution of the column alone"
        )
    for block in blocks_of(torch.arange(len(x)), density.num_features):
        check_given(density, x[block], hidden[block], block)
    settings = given_or_default(settings, ConditionalSettings)
    has_others = hidden.sum(1) > 1
    parts: list[tuple[Tensor, Prediction]] = []
    given = (
        (block, _given_contexts(density, x[block], hidden[block], generator))
        for block in blocks_of((~has_others).nonzero().flatten(), density.num_features)
    )
    options = {"num_samples": NUM_CONTEXTS, "settings": settings, "generator": generator}
    drawn = (
        (block, _drawn_contexts(found))
        for block, found in sample_in_blocks(density, x, hidden, has_others.nonzero().flatten(), **options)
    )
    for block, contexts in itertools.chain(given, drawn):
        share = max(1, MOST_ROWS // (NUM_POINTS * contexts.states.shape[1]))
        for some in torch.arange(len(block)).split(share):
            slices = ColumnSlices(density, place, contexts.take(some), levels)
            parts.append((block[some], slices.quantities(x[block[some], place])))
    found = _joined(parts)
    is_off = ~density.columns[place].has(x[:, place])
    return dataclasses.replace(found, log_density=found.log_density.masked_fill(is_off, -math.inf))


def _levels(quantiles: Sequence[float]) -> tuple[float, ...]:
    """The levels of quantiles as numbers of Python.

    Raises:
        DataError: no sequence, or levels outside (0, 1).
    """
    if not isinstance(quantiles, Sequence | np.ndarray) or isinstance(quantiles, str):
        raise DataError(
            f"quantiles must be a sequence of levels between 0 and 1, such as (0.1, 0.9), got {quantiles!r}"
        )
    if not all(is_number(level) and 0 < level < 1 for level in quantiles):
        raise DataError(f"quantiles must lie between 0 and 1, got {tuple(quantiles)}")
    return tuple(float(level) for level in quantiles)


def _joined(parts: Sequence[tuple[Tensor, Prediction]]) -> Prediction:
    """Predictions of groups of rows as one, in the order of the rows' indices."""
    order = torch.cat([index for index, _ in parts]).argsort()
    predictions = [prediction for _, prediction in parts]
    joined = {
        name: torch.cat([getattr(p, name) for p in predictions])[order]
        for name in ("mean", "quantiles", "log_density", "standard_error", "quadrature_error")
    }
    by_label = [p.probabilities for p in predictions if p.probabilities is not None]
    return dataclasses.replace(predictions[0], **joined, probabilities=torch.cat(by_label)[order] if by_label else None)


def _given_contexts(density: FittedModel, rows: Tensor, hidden: Tensor, generator: torch.Generator | None) -> Contexts:
    """One context for each row with all other columns given, or several points in the cells of its closed columns."""
    filled = torch.where(hidden, density.middle, rows)
    number = NUM_PLACES if bool(given_in_cells(density.columns, hidden).any()) else 1
    places, in_cell = cell_positions(density.columns, filled, hidden, 1, num_strata=number, generator=generator)
    states, slopes = density.transform.with_column_log_jacobian(places)
    weights = (slopes * in_cell[:, None]).sum(-1)
    return Contexts(states, weights, False, torch.full((len(rows),), float(number), dtype=torch.float64))


def _drawn_contexts(found: ConditionalResult) -> Contexts:
    """Conditional draws of every missing column as contexts of each row."""
    particles = found.log_weights[0].numel()
    effective = (found.least_ess * particles).minimum(torch.tensor(float(NUM_CONTEXTS), dtype=torch.float64))
    weights = torch.zeros(found.draws.shape[:2], dtype=torch.float64)
    return Contexts(found.draws.double().cpu(), weights, True, effective)
