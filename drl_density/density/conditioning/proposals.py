"""Conditional draws of rows from those of the base, in rounds of growing size: by weights, or by particle filters."""

from __future__ import annotations

import math
from collections.abc import Generator

import torch
from torch import Tensor

from drl_density.density.conditioning.cells import cell_positions, given_in_cells, numbers_of_positions
from drl_density.density.fitted import FittedModel
from drl_density.inverse_problems import ConditionalResult, ConditionalSettings
from drl_density.inverse_problems.filtered_conditional import NUM_FILTERS, filtered_conditional
from drl_density.inverse_problems.row_streams import RowStreams
from drl_density.inverse_problems.weighted_conditional import (
    NUM_GROUPS,
    base_conditional,
    weighted_conditional,
)

LEAST_ESS = 100
"""Effective draws below which an imputed cell's spread is known to no better than 10 %."""
PER_POINT = 4
"""Proposals at each point of given cells: with 256 of them, a group has 4 points, one in each quarter of a cell."""
UNIT = NUM_GROUPS**2
"""The first round's proposals are a multiple of this, so that each group has a multiple of 16."""
NUM_ROUNDS = 5
"""Rounds, each with twice the proposals of the one before: the last has 16 times those of the first."""
PLACES = 2
"""Purpose of a row's random numbers that place its points in the cells of given values."""
MOST_NUMBERS = 2**21
"""Numbers in the proposals of one block of rows (16 MB)."""
FILTER_GROWTH, FILTER_ROUNDS = 4, 2
"""Particles of a round of filters in multiples of those of the round before, and the number of rounds."""


def weighted_in_rounds(
    density: FittedModel,
    rows: Tensor,
    is_missing: Tensor,
    chosen: Tensor,
    *,
    num_samples: int,
    settings: ConditionalSettings,
    generator: torch.Generator | None = None,
) -> Generator[tuple[Tensor, ConditionalResult], None, Tensor]:
    """Weighted conditional draws of the rows with the indices ``chosen``, as far as their weights are even enough.

    Every round draws fresh proposals for the rows that are left, twice as many a row as the round before. A row is finished
    when its weight ESS reaches 100 and the number of its draws. Rows that not even the last round would finish are given up
    at once. Nothing of an unfinished round is used, so that the choice of rows does not bias their weights. Every row has
    random numbers of its own, by its number, so its draws do not depend on the other rows. Rows with the same missing cells
    are worked on together, as they share the matrices of the base.

    A given label, or value of another closed support, stands for its whole cell: every four proposals take their own point
    in it, weighted by the base's density and the Jacobian there.

    Args:
        rows: all rows ``(n, d)`` in data units.
        is_missing: cells to draw, ``(n, d)``.
        chosen: indices of the rows to draw for.
        num_samples: number of draws for each row.
        settings: its ``num_proposals``, or four times the draws where that is more, is the size of the first round, rounded
            up to a multiple of 256.

    Yields:
        The indices of a block's finished rows, and their draws in model space.

    Returns:
        The indices of the unfinished rows, in order; all of them where the base has no conditionals.
    """
    law = base_conditional(density.model)
    if law is None:
        return chosen
    wanted = max(LEAST_ESS, num_samples)
    first = UNIT * math.ceil(max(settings.num_proposals, 4 * num_samples) / UNIT)
    seed, given_up = RowStreams.of(generator).seed, chosen[:0]
    left = chosen[is_missing[chosen].unique(dim=0, return_inverse=True)[1].argsort(stable=True)]
    in_cell = given_in_cells(density.columns, is_missing).any(1)
    for index in range(NUM_ROUNDS):
        num_proposals, again, streams = first * 2**index, [chosen[:0]], RowStreams(seed, index)
        share = max(1, MOST_NUMBERS // (num_proposals * (density.num_features + 1)))
        for has_cells in (False, True):
            num_groups, num_strata = (NUM_GROUPS, num_proposals // (PER_POINT * NUM_GROUPS)) if has_cells else (1, 1)
            for some in left[in_cell[left] == has_cells].split(share):
                if not len(some):
                    continue
                filled = torch.where(is_missing[some], density.middle, rows[some].double())
                uniform = None
                if has_cells:
                    shape = numbers_of_positions(num_groups, num_strata, density.num_features)
                    uniform = streams.numbers(some, shape, purpose=PLACES, kind="uniform")
                places, cells = cell_positions(
                    density.columns, filled, is_missing[some], num_groups, num_strata=num_strata, uniform=uniform
                )
                # An error for a transform that mixes columns.
                states, slopes = density.transform.with_column_log_jacobian(places)
                found = weighted_conditional(
                    density.model,
                    law,
                    states,
                    is_missing[some],
                    num_samples,
                    num_proposals=num_proposals,
                    log_offsets=(slopes * cells[:, None]).sum(-1),
                    streams=streams,
                    numbers=some,
                )
                is_done = found.ess >= wanted
                is_near = found.ess * 2 ** (NUM_ROUNDS - 1 - index) >= wanted
                again.append(some[~is_done & is_near])
                given_up = torch.cat([given_up, some[~is_near]])
                if bool(is_done.any()):
                    yield some[is_done], found.take(is_done)
        left = torch.cat(again)
    return given_up.sort().values


def filtered_in_rounds(
    density: FittedModel,
    rows: Tensor,
    is_missing: Tensor,
    chosen: Tensor,
    *,
    num_samples: int,
    settings: ConditionalSettings,
    generator: torch.Generator | None = None,
) -> Generator[tuple[Tensor, ConditionalResult], None, None]:
    """Conditional draws of the rows with the indices ``chosen`` by particle filters along the pixels of images.

    A second round has four times the particles, for rows with fewer than 100 effective draws, or fewer than asked. What that
    round finds is final: its ``ess`` says how far it got. A given grey level stands for its whole cell.

    Args:
        density: a fit with an autoregressive density at level 0.
        rows: all rows ``(n, d)`` in data units.
        is_missing: cells to draw, ``(n, d)``.
        chosen: indices of the rows to draw for.
        num_samples: number of draws for each row.
        settings: its ``num_proposals``, or the number of draws if that is more, is the number of particles of the first
            round, rounded up to a multiple of 8, one for each filter of a row.

    Yields:
        The indices of a block's finished rows, and their draws in model space.
    """
    wanted = max(LEAST_ESS, num_samples)
    first = math.ceil(max(settings.num_proposals, num_samples) / NUM_FILTERS)
    seed = RowStreams.of(generator).seed
    left = chosen[is_missing[chosen].unique(dim=0, return_inverse=True)[1].argsort(stable=True)]
    for index in range(FILTER_ROUNDS):
        if not len(left):
            return
        num_particles, again = first * FILTER_GROWTH**index, [chosen[:0]]
        for some in left.split(max(1, MOST_NUMBERS // (NUM_FILTERS * num_particles * density.num_features))):
            filled = torch.where(is_missing[some], density.middle, rows[some].double())
            own = torch.Generator().manual_seed(seed % 2**62)
            places, in_cell = cell_positions(density.columns, filled, is_missing[some], NUM_FILTERS, generator=own)
            states, slopes = density.transform.with_column_log_jacobian(places)
            found = filtered_conditional(
                density.model,
                states,
                is_missing[some],
                num_samples,
                num_particles=num_particles,
                log_offsets=(slopes * in_cell[:, None]).sum(-1),
                streams=RowStreams(seed, index),
                numbers=some,
            )
            is_done = (found.ess >= wanted) | (index == FILTER_ROUNDS - 1)
            again.append(some[~is_done])
            if bool(is_done.any()):
                yield some[is_done], found.take(is_done)
        left = torch.cat(again)
