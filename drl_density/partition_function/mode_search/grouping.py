"""Which end points of climbs belong to one mode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity, value_and_gradient
from drl_density.partition_function.mode_search.ascent import Climb, climb_rows
from drl_density.partition_function.mode_search.shape import Shape, measure_shape

MOST_SHAPES = 48
"""Largest number of optima that are measured; end points beyond it count as modes of their own."""
LINE_DIP, PATH_DIP, MOST_RISE = 0.1, 1.0, 2.0
"""Nats by which the log density may fall between two ends of one mode: along the line, and along a path that climbs, and
by which the optima at both ends of a path may differ. Chains cross a dip of one nat at once."""
NUM_BETWEEN = 15
"""Points between two ends at which the log density is looked at."""
MOST_POLISHES, POLISH_STEPS, LEAST_SLOPE = 3, 100, 0.01
"""Climbs that an end takes in its own units, the steps of each, and the slope in nats a width below which it takes none."""
PATH_STEPS = 60
"""Largest number of steps by which a point between two ends climbs."""


@dataclass(frozen=True)
class Grouping:
    """Optima and the modes that they belong to.

    Attributes:
        shapes: measured optima, the highest first.
        modes: index of the mode of each optimum; 0 for the highest.
        labels: index of the mode of each end point ``(n,)``; -1 where the log density is not finite.
    """

    shapes: tuple[Shape, ...]
    modes: tuple[int, ...]
    labels: Tensor

    @property
    def num_modes(self) -> int:
        """Number of modes, those of end points that were not measured included."""
        return int(self.labels.max()) + 1 if len(self.labels) else 0


def group_ends(log_density: LogDensity, ends: Climb, *, has_gradient: bool = True) -> Grouping:
    """Measure optima and group end points by the dips between them.

    Two ends share an optimum if the log density on the line between them falls at most 0.1 nats below the lower of the two.
    Neighbouring optima of nearly one height share a mode if it falls at most one nat below along a path. Each point of the
    path climbs in the plane across the line, so that the path follows a ring or a curved ridge.

    Args:
        log_density: maps rows ``(n, d)`` to ``(n,)``.
        ends: end points of climbs.
        has_gradient: whether the log density can be differentiated; optima are not joined by paths without it.

    >>> x = torch.tensor([[-5.0], [-4.999], [5.0]]).double()
    >>> def pair(x):
    ...     return torch.logaddexp(-0.5 * (x[:, 0] - 5) ** 2, -0.5 * (x[:, 0] + 5) ** 2)
    >>> group_ends(pair, Climb(x, pair(x), torch.ones(3).bool())).labels.tolist()
    [0, 0, 1]
    """
    optimum = torch.full((len(ends.value),), -1)
    left = ends.value.argsort(descending=True, stable=True)
    left = left[ends.value[left].isfinite()]
    shapes: list[Shape] = []
    wave = 1  # a target with one mode needs a single one; where there are more, several are measured together
    while len(left) and len(shapes) < MOST_SHAPES:
        chosen, wave = left[: min(wave, MOST_SHAPES - len(shapes))], 2 * wave
        measured = [measure_shape(log_density, row, has_gradient=has_gradient) for row in ends.position[chosen]]
        for best, shape in zip(chosen, _polished(log_density, measured) if has_gradient else measured, strict=True):
            if optimum[best] >= 0:  # it shares an optimum that this wave has measured
                continue
            known = _known(log_density, shapes, shape)
            if known is None:
                shapes.append(shape)
            optimum[best] = own = len(shapes) - 1 if known is None else known
            rest = left[left != best]
            dips = _line_dips(log_density, shape.center.expand(len(rest), -1), ends.position[rest], ends.value[rest])
            optimum[rest[dips <= LINE_DIP]] = own
            left = rest[dips > LINE_DIP]
    optimum[left] = len(shapes) + torch.arange(len(left))
    joined = _joined(log_density, shapes) if has_gradient else list(range(len(shapes)))
    of_optimum = torch.tensor([*joined, *(max(joined, default=-1) + 1 + index for index in range(len(left)))])
    labels = torch.where(optimum >= 0, of_optimum[optimum.clamp_min(0)], -1) if len(of_optimum) else optimum
    return Grouping(tuple(shapes), tuple(joined), labels)


def _polished(log_density: LogDensity, shapes: list[Shape]) -> list[Shape]:
    """The shapes after more climbs, each in its own units, in which a narrow ridge or neck is round."""
    found, climbing = list(shapes), list(range(len(shapes)))
    for _ in range(MOST_POLISHES):
        _, gradients = value_and_gradient(log_density, torch.stack([found[index].center for index in climbing]))
        slopes = [float((row @ found[index].factor).norm()) for index, row in zip(climbing, gradients.double(), strict=True)]
        climbing = [index for index, slope in zip(climbing, slopes, strict=True) if slope > LEAST_SLOPE]
        if not climbing:
            break
        here = [found[index] for index in climbing]

        def in_units(z: Tensor, rows: Tensor, here: list[Shape] = here) -> Tensor:
            return log_density(torch.cat([here[row].color(one[None]) for row, one in zip(rows.tolist(), z, strict=True)]))

        starts = torch.zeros(len(here), len(here[0].center), dtype=torch.float64)
        end = climb_rows(in_units, starts, scale=0.1, most_steps=POLISH_STEPS)
        rose = [row for row, shape in enumerate(here) if float(end.value[row]) > shape.value + LINE_DIP]
        for row in rose:
            top = here[row].color(end.position[row, None])[0]
            found[climbing[row]] = measure_shape(log_density, top, scale=here[row].width)
        climbing = [climbing[row] for row in rose]
        if not climbing:
            break
    return found


def _known(log_density: LogDensity, shapes: list[Shape], shape: Shape) -> int | None:
    """Index of a measured optimum without a dip on the line to a new one."""
    if not shapes:
        return None
    centers = torch.stack([one.center for one in shapes])
    lower = torch.tensor([min(one.value, shape.value) for one in shapes], dtype=torch.float64)
    dips = _line_dips(log_density, centers, shape.center.expand(len(centers), -1), lower)
    return int(dips.argmin()) if float(dips.min()) <= LINE_DIP else None


def _line_dips(log_density: LogDensity, first: Tensor, second: Tensor, lower: Tensor) -> Tensor:
    """Nats by which the log density falls below ``lower`` on the lines between two sets of rows ``(n, d)``."""
    shares = torch.linspace(0, 1, NUM_BETWEEN + 2, dtype=torch.float64)[1:-1, None, None]
    between = first + shares * (second - first)
    with torch.no_grad():
        values = log_density(between.flatten(0, 1)).double().unflatten(0, between.shape[:2])
    return torch.where(values.isnan(), torch.inf, lower - values).amax(0)  # not-a-number counts as a density of zero


def _joined(log_density: LogDensity, shapes: list[Shape]) -> list[int]:
    """Index of the mode of each optimum, after joining neighbours without a dip between them."""
    if len(shapes) < 2:
        return [0] * len(shapes)
    centers = torch.stack([shape.center for shape in shapes])
    edges = _spanning_tree(shapes[0].whiten(centers))
    first, second = centers[edges[:, 0]], centers[edges[:, 1]]
    values = torch.tensor([shape.value for shape in shapes], dtype=torch.float64)
    lower = torch.minimum(values[edges[:, 0]], values[edges[:, 1]])
    is_level = (values[edges[:, 0]] - values[edges[:, 1]]).abs() <= MOST_RISE
    edges, first, second, lower = edges[is_level], first[is_level], second[is_level], lower[is_level]
    is_one = _path_dips(log_density, first, second, lower) <= PATH_DIP if len(edges) else is_level[:0]
    mode = list(range(len(shapes)))
    for one, other in edges[is_one].tolist():
        kept, dropped = sorted((mode[one], mode[other]))
        mode = [kept if index == dropped else index for index in mode]
    order = sorted(set(mode))
    return [order.index(index) for index in mode]


def _path_dips(log_density: LogDensity, first: Tensor, second: Tensor, lower: Tensor) -> Tensor:
    """Nats by which the log density falls below ``lower`` on climbing paths between two sets of rows ``(n, d)``."""
    across = second - first
    across = across / across.norm(dim=1, keepdim=True).clamp_min(1e-300)
    shares = torch.linspace(0, 1, NUM_BETWEEN + 2, dtype=torch.float64)[1:-1, None, None]
    start = (first + shares * (second - first)).flatten(0, 1)
    normal = across.repeat(NUM_BETWEEN, 1)

    def in_plane(x: Tensor, rows: Tensor) -> Tensor:
        moved = x - start[rows]
        return log_density(start[rows] + moved - (moved * normal[rows]).sum(1, keepdim=True) * normal[rows])

    spacing = (second - first).norm(dim=1).repeat(NUM_BETWEEN) / (NUM_BETWEEN + 1)
    found = climb_rows(in_plane, start, scale=spacing, most_steps=PATH_STEPS)
    moved = found.position - start
    path = start + moved - (moved * normal).sum(1, keepdim=True) * normal
    path = torch.cat([first[None], path.unflatten(0, (NUM_BETWEEN, -1)), second[None]])
    links = (path[:-1].flatten(0, 1), path[1:].flatten(0, 1))
    dips = _line_dips(log_density, *links, lower.repeat(NUM_BETWEEN + 1))
    return dips.unflatten(0, (NUM_BETWEEN + 1, -1)).amax(0)


def _spanning_tree(points: Tensor) -> Tensor:
    """Edges ``(n - 1, 2)`` of the shortest tree that joins all points. Source: Prim 1957."""
    distances = torch.cdist(points, points)
    nearest, edges = torch.zeros(len(points), dtype=torch.long), []
    best = distances[0].clone()
    is_in = torch.zeros(len(points), dtype=torch.bool)
    is_in[0] = True
    for _ in range(len(points) - 1):
        chosen = int(best.masked_fill(is_in, torch.inf).argmin())
        edges.append([int(nearest[chosen]), chosen])
        is_in[chosen] = True
        is_closer = distances[chosen] < best
        best, nearest = torch.where(is_closer, distances[chosen], best), nearest.masked_fill(is_closer, chosen)
    return torch.tensor(edges).reshape(-1, 2)
