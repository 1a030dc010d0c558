"""Conditional draws of whole rows, with checks of what is given.

Where the base of the model has conditionals in closed form and the network is bounded, draws of these are weighted by the
network (:mod:`drl_density.density.conditioning.proposals`). On an autoregressive density of images, particle filters draw
them. All other rows are drawn by sequential Monte Carlo down the noise levels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from drl_density.datasets.column import MOST_SHOWN
from drl_density.density.conditioning.cells import cell_positions
from drl_density.density.conditioning.proposals import filtered_in_rounds, weighted_in_rounds
from drl_density.density.fitted import FittedModel
from drl_density.errors import DataError, DataWarning
from drl_density.inverse_problems import ConditionalResult, ConditionalSettings, plan_conditional, sample_conditional
from drl_density.inverse_problems.filtered_conditional import pixel_base

MOST_ROWS = 4096
"""Rows whose conditional draws are made at once: particles, weights and draws of a row take 10 to 100 kB."""
MOST_VALUES = 2**17
"""Values of these rows, where rows are long."""
FAR = 2.0
"""Multiples of the largest distance of any stored draw from the median beyond which a given value is called far."""


def sample_in_blocks(
    density: FittedModel,
    rows: Tensor,
    is_missing: Tensor,
    chosen: Tensor,
    *,
    num_samples: int,
    settings: ConditionalSettings,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, ConditionalResult]]:
    """Conditional draws of the rows with the indices ``chosen``, in blocks that bound the memory.

    Rows come in any order, each in one block. Draws do not depend on the sizes of the blocks where the base's conditionals
    make them. Blocks of sequential Monte Carlo have a pilot run each, and continue the generator of the block before. All
    rows are checked before the first draw.

    Args:
        rows: all rows ``(n, d)`` in data units.
        is_missing: cells to draw, ``(n, d)``.
        chosen: indices of the rows to draw for.
        num_samples: number of draws for each row.
        settings: sizes of the run.

    Yields:
        The indices of a block's rows, and their draws in model space.

    Raises:
        DataError: observed values out of bounds, or a transform that mixes columns.
    """
    if not len(chosen):
        return
    blocks = blocks_of(chosen, density.num_features)
    states = [check_given(density, rows[some], is_missing[some], some) for some in blocks]
    _warn_of_far(density, torch.cat(states), rows[chosen], is_missing[chosen], chosen)
    options = {"num_samples": num_samples, "settings": settings, "generator": generator}
    if pixel_base(density.model) is not None:
        yield from filtered_in_rounds(density, rows, is_missing, chosen, **options)
        return
    left = yield from weighted_in_rounds(density, rows, is_missing, chosen, **options)
    for some in blocks_of(left, density.num_features):
        yield some, _annealed(density, rows[some], is_missing[some], **options)


def blocks_of(indices: Tensor, num_features: int) -> tuple[Tensor, ...]:
    """Indices of rows in blocks that bound the memory of conditional draws; none for no rows.

    >>> [len(block) for block in blocks_of(torch.arange(5000), 20)]
    [4096, 904]
    """
    return indices.split(max(1, min(MOST_ROWS, MOST_VALUES // max(1, num_features)))) if len(indices) else ()


def check_given(density: FittedModel, rows: Tensor, is_missing: Tensor, numbers: Tensor) -> Tensor:
    """The rows ``(n, d)`` in model space, with medians in missing places, after a check that all values have a place there.

    Args:
        numbers: numbers of the rows in messages, ``(n,)``.

    Raises:
        DataError: observed values out of bounds.
    """
    u = density.to_model(torch.where(is_missing, density.middle, rows.double()))
    _refuse_outside(density, u, rows, is_missing, numbers)
    return u


def sample_row(
    density: FittedModel,
    row: Tensor,
    is_missing: Tensor,
    *,
    num_samples: int,
    settings: ConditionalSettings,
    generator: torch.Generator | None = None,
) -> ConditionalResult:
    """Conditional draws of one row ``(d,)`` in data units; the result is in model space.

    Args:
        is_missing: cells to draw, ``(d,)``.
        num_samples: number of draws.
        settings: sizes of the run.

    Raises:
        DataError: observed values out of bounds, or a transform that mixes columns.
    """
    options = {"num_samples": num_samples, "settings": settings, "generator": generator}
    ((_, found),) = sample_in_blocks(density, row[None], is_missing[None], torch.arange(1), **options)
    return found


def _annealed(
    density: FittedModel,
    rows: Tensor,
    is_missing: Tensor,
    *,
    num_samples: int,
    settings: ConditionalSettings,
    generator: torch.Generator | None,
) -> ConditionalResult:
    """Conditional draws of whole rows ``(n, d)`` in data units by sequential Monte Carlo; the result is in model space.

    A given label, or value of another closed support, stands for its whole cell: every replicate takes its own point in it,
    weighted by the Jacobian there.
    """
    filled = torch.where(is_missing, density.middle, rows.double())
    places, in_cell = cell_positions(density.columns, filled, is_missing, settings.num_replicates, generator=generator)
    # An error for a transform that mixes columns.
    states, slopes = density.transform.with_column_log_jacobian(places)
    offsets = (slopes * in_cell[:, None]).sum(-1)
    pool, u = density.to_model(density.pool.double()), density.to_model(filled)
    plan = plan_conditional(density.model, pool, u, is_missing, settings=settings, generator=generator)
    return sample_conditional(
        density.model,
        states,
        is_missing,
        num_samples,
        plan=plan,
        settings=settings,
        log_offsets=offsets,
        generator=generator,
    )


def _warn_of_far(density: FittedModel, u: Tensor, rows: Tensor, is_missing: Tensor, numbers: Tensor) -> None:
    """Warn of observed values further out than twice what any stored draw reaches."""
    pool = density.to_model(density.pool.double())
    middle = pool.median(0).values
    reach = (pool - middle).abs().amax(0)
    far = (((u - middle).abs() > FAR * reach) & ~is_missing).nonzero()
    if len(far):
        row, column = far[0].tolist()
        warnings.warn(
            f"{len(far)} observed values lie far outside the data, the first {float(rows[row, column]):g} in row "
            f"{int(numbers[row])}, column {density.columns[column].name!r}: draws given them are extrapolation",
            DataWarning,
            stacklevel=4,
        )


def _refuse_outside(density: FittedModel, u: Tensor, rows: Tensor, is_missing: Tensor, numbers: Tensor) -> None:
    """Raise a DataError for the first observed value that has no place in model space, or none in a closed support."""
    is_off = torch.stack([~column.has(rows[:, place]) for place, column in enumerate(density.columns)], 1)
    bad = ((~u.isfinite() | is_off) & ~is_missing).nonzero()
    if len(bad):
        row, index = bad[0].tolist()
        column, number = density.columns[index], int(numbers[row])
        fault = "lies outside the bounds that the density was fitted with"
        if column.is_closed:
            known = ", ".join(f"{value:.12g}" for value in column.values[:MOST_SHOWN])
            fault = f"is none of the values of the fit ({known})"
        raise DataError(
            f"row {number}: {float(rows[row, index]):.12g} of column {column.name!r} {fault}, so there is nothing to "
            "condition on"
        )


def observed_log_density(density: FittedModel, rows: Tensor, result: ConditionalResult) -> tuple[Tensor, Tensor]:
    """Log density of the observed cells of rows ``(n, d)`` with NaN, and its error without that of log Z, each ``(n,)``.

    A value of a closed support counts with its cell's mean density, which is its probability for cells of width 1.
    """
    is_missing = rows.isnan()
    slopes = density.transform.column_log_jacobian(torch.where(is_missing, density.middle, rows))
    is_point = ~is_missing & ~density.is_closed
    return result.log_z - density.estimate.log_z + (slopes * is_point).sum(1), result.standard_error
