"""The gap between forward and reverse paths by segment: which neighbouring levels of a sequence disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.model import EnergySequence
from drl_density.partition_function.sequence_paths.kernels import measure_kernels, noised_rows
from drl_density.partition_function.sequence_paths.noise_grid import NoiseGrid, even_grid
from drl_density.partition_function.sequence_paths.particles import PathWeights, paths_down, paths_up

NUM_ROWS, STEPS_PER_LEVEL = 64, 6
"""Rows whose paths show the gap, as many of which plan the kernels, and steps of the paths per level."""
MOST_NAMED, LEAST_NAMED_SHARE, LEAST_NAMED_ERRORS = 3, 0.1, 3.0
"""Segments that a text names; share of the summed gaps, and standard errors, from which a gap is worth a name."""


@dataclass(frozen=True)
class SegmentGaps:
    """The gap between forward and reverse path weights, divided among pairs of neighbouring levels.

    Paths from noise down to level 0 weigh less on average than paths from rows up to noise. The difference of the two mean
    log weights is a sum over steps. For a sequence whose levels agree, and rows that are draws of it, every segment's part
    is small and falls with the number of steps; a part that more steps do not lower is a disagreement of two levels.

    Attributes:
        levels: level at the cleaner and the noisier end of every segment.
        gaps: mean increment of reverse paths less that of forward paths in every segment, nats. A negative one shows rows
            that are no draws of the model there.
        standard_errors: standard error of every gap, nats.
        scatters: standard deviation over rows of the reverse paths' increment in every segment, nats.
        num_rows: rows behind the reverse paths.

    >>> found = SegmentGaps(((0, 1), (1, 2)), (6.0, 0.5), (0.1, 0.1), (3.0, 0.4), 64)
    >>> found.total, found.guilty
    (6.5, ((0, 1),))
    >>> print(found)
    forward and reverse path weights lie 6.5 nats apart (64 rows); levels 0 to 1 carry 6 (scatter 3)
    """

    levels: tuple[tuple[float, float], ...]
    gaps: tuple[float, ...]
    standard_errors: tuple[float, ...]
    scatters: tuple[float, ...]
    num_rows: int

    @property
    def total(self) -> float:
        """Mean log weight of reverse paths less that of forward paths, nats."""
        return math.fsum(self.gaps)

    @property
    def ranked(self) -> tuple[int, ...]:
        """Indices of at most three segments, the worst first.

        Each carries a tenth of the summed absolute gaps or more, and lies beyond three standard errors of zero.
        """
        sizes = [abs(gap) for gap in self.gaps]
        least = LEAST_NAMED_SHARE * math.fsum(sizes)
        order = sorted(range(len(sizes)), key=lambda index: -sizes[index])[:MOST_NAMED]
        return tuple(
            index
            for index in order
            if sizes[index] >= least and sizes[index] > LEAST_NAMED_ERRORS * self.standard_errors[index]
        )

    @property
    def guilty(self) -> tuple[tuple[float, float], ...]:
        """Ends of these segments, the worst first."""
        return tuple(self.levels[index] for index in self.ranked)

    def __str__(self) -> str:
        named = [
            f"levels {self.levels[index][0]:g} to {self.levels[index][1]:g} carry {self.gaps[index]:.2g} "
            f"(scatter {self.scatters[index]:.2g})"
            for index in self.ranked
        ]
        whole = f"forward and reverse path weights lie {self.total:.2g} nats apart ({self.num_rows} rows)"
        return f"{whole}; {', '.join(named)}" if named else whole


def gaps_between(grid: NoiseGrid, num_levels: int, forward: PathWeights, reverse: PathWeights) -> SegmentGaps:
    """Divide the gap between paths of both directions among the pairs of neighbouring levels.

    Args:
        grid: grid that both walked.
        num_levels: number of levels of the sequence.
        forward: paths from noise down to level 0.
        reverse: paths from rows up to noise.
    """
    segment = grid.levels[:-1].floor().long()
    down, up = (_by_segment(weights, segment, num_levels) for weights in (forward, reverse))
    gaps = up.mean(0) - down.mean(0)
    errors = (up.var(0) / len(up) + down.var(0) / len(down)).sqrt()
    return SegmentGaps(
        levels=tuple((float(level), float(level + 1)) for level in range(num_levels)),
        gaps=tuple(gaps.tolist()),
        standard_errors=tuple(errors.tolist()),
        scatters=tuple(up.std(0).tolist()),
        num_rows=len(up),
    )


def _by_segment(weights: PathWeights, segment: Tensor, num_segments: int) -> Tensor:
    """Increments of every path summed over the steps of each segment, ``(path, segment)``."""
    flat = weights.increments.flatten(0, 1)
    return torch.zeros(len(flat), num_segments, dtype=flat.dtype).index_add(1, segment, flat)


@outside_inference_mode
def segment_gaps(
    model: EnergySequence,
    rows: Tensor,
    *,
    num_rows: int = NUM_ROWS,
    steps_per_level: int = STEPS_PER_LEVEL,
    generator: torch.Generator | None = None,
) -> SegmentGaps:
    """Measure which neighbouring levels of a sequence disagree, by path weights in both directions on a few rows.

    It costs ``3 * num_rows * num_levels * steps_per_level`` gradients of the network.

    Args:
        model: sequence of models whose levels are compared.
        rows: clean rows ``(n, *event)`` in model space, at least 4. Half of them plan the kernels, the others are walked.
        num_rows: rows of each half that are used at most, and paths down.
        steps_per_level: steps of the paths per level.

    Raises:
        ValueError: fewer than 4 rows.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> generator = torch.Generator().manual_seed(0)
    >>> found = segment_gaps(system.model, system.sample(128, None, generator=generator), generator=generator)
    >>> len(found.gaps), found.total < 2
    (8, True)
    """
    if len(rows) < 4:
        raise ValueError(f"expected at least 4 rows, half of which plan the paths of the others, got {len(rows)}")
    chosen = torch.randperm(len(rows), generator=generator)[: 2 * num_rows].tensor_split(2)
    grid = even_grid(model.schedule, model.num_levels * steps_per_level)
    planned = noised_rows(model, rows[chosen[0]], generator=generator)
    kernels = measure_kernels(model, grid, planned, generator=generator)
    walked = noised_rows(model, rows[chosen[1]], generator=generator)
    forward = paths_down(kernels, (1, len(walked.states)), generator=generator)
    reverse = paths_up(kernels, walked.states[None], generator=generator)
    return gaps_between(grid, model.num_levels, forward, reverse)
