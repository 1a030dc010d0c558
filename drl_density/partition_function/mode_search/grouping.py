"""Which end points of climbs belong to one mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity, value_and_gradient
from drl_density.partition_function.mode_search.ascent import Climb, climb_rows, resolved
from drl_density.partition_function.mode_search.shape import Shape, measure_shape

MOST_SHAPES = 48
"""Largest number of optima that are measured; end points beyond it count as modes of their own."""
LINE_DIP, PATH_DIP, MOST_RISE = 0.1, 1.0, 2.0
"""Nats by which the log density may fall between two ends of one mode: along the line, and along a path that climbs, and
by which the optima at both ends of a path may differ. Chains cross a dip of one nat at once."""
NUM_BETWEEN = 15
"""Points between two ends at which the log density is looked at."""
SAME_PLACE = 0.1
"""Squared distance in widths of an optimum within which an end of the same height is that optimum."""
MOST_SAME = 6
"""Ends in turn that climb on to optima that are known already, once they are measured, after which all that are left are
taken to do so: along a neck climbs stop anywhere, and each measurement costs hundreds of evaluations."""
FEW_SHAPES = 7
"""Measured optima after which the ends that are left are first followed to one of them."""
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
        optima: index of the measured optimum of each end point ``(n,)``; -1 where it has none.
        followed: indices of end points that a path has joined to their optimum.
    """

    shapes: tuple[Shape, ...]
    modes: tuple[int, ...]
    labels: Tensor
    optima: Tensor
    followed: Tensor

    @classmethod
    def empty(cls) -> Grouping:
        """The grouping of no end points."""
        nothing = torch.zeros(0, dtype=torch.long)
        return cls((), (), nothing, nothing, nothing)

    @property
    def num_modes(self) -> int:
        """Number of modes, those of end points that were not measured included."""
        return int(self.labels.max()) + 1 if len(self.labels) else 0


def group_ends(
    log_density: LogDensity, ends: Climb, *, earlier: Grouping | None = None, has_gradient: bool = True
) -> Grouping:
    """Measure optima and group end points by the dips between them.

    Two ends share an optimum if the log density on the line between them falls at most 0.1 nats below the lower of the two.
    Neighbouring optima of nearly one height share a mode if it falls at most one nat below along a path. Each point of the
    path climbs in the plane across the line, so that the path follows a ring or a curved ridge. An end that did not come to
    rest may lie lower: it is on its way up. Ends that a path joins to a measured optimum are not measured themselves.

    Args:
        log_density: maps rows ``(n, d)`` to ``(n,)``.
        ends: end points of climbs.
        earlier: grouping of the first of these ends, whose optima are not measured again.
        has_gradient: whether the log density can be differentiated; optima are not joined by paths without it.

    >>> x = torch.tensor([[-5.0], [-4.999], [5.0]]).double()
    >>> def pair(x):
    ...     return torch.logaddexp(-0.5 * (x[:, 0] - 5) ** 2, -0.5 * (x[:, 0] + 5) ** 2)
    >>> group_ends(pair, Climb(x, pair(x), torch.ones(3).bool())).labels.tolist()
    [0, 0, 1]
    """
    earlier = earlier or Grouping.empty()
    optimum = torch.full((len(ends.value),), -1)
    optimum[: len(earlier.optima)] = earlier.optima
    left = ends.value.argsort(descending=True, stable=True)
    left = left[ends.value[left].isfinite() & (optimum[left] < 0)]
    shapes = list(earlier.shapes)
    for index, shape in enumerate(shapes):
        left = _taken(log_density, ends, shape, index, optimum, left)
    # A target with one mode needs a single measurement; where there are more, several are measured together.
    wave, is_followed, num_same, followed = 1, False, 0, earlier.followed
    while len(left) and len(shapes) < MOST_SHAPES:
        if num_same >= MOST_SAME:
            optimum[left] = _nearest(shapes, ends.position[left])
            left = left[:0]
            break
        if has_gradient and not is_followed and len(shapes) >= FEW_SHAPES:
            rest = _followed(log_density, ends, shapes, optimum, left)
            followed, left, is_followed = torch.cat([followed, left[optimum[left] >= 0]]), rest, True
            continue
        chosen, wave = left[: min(wave, MOST_SHAPES - len(shapes))], 2 * wave
        measured = [measure_shape(log_density, row, has_gradient=has_gradient) for row in ends.position[chosen]]
        for best, shape in zip(chosen, _polished(log_density, measured) if has_gradient else measured, strict=True):
            if optimum[best] >= 0:  # it shares an optimum that this wave has measured
                continue
            same = _known(log_density, shapes, shape)
            if same is None:
                shapes.append(shape)
            num_same = 0 if same is None else num_same + 1
            optimum[best] = own = len(shapes) - 1 if same is None else same
            left = _taken(log_density, ends, shape, own, optimum, left[left != best])
    # The highest optimum comes first, whichever was measured first.
    order = sorted(range(len(shapes)), key=lambda index: -shapes[index].value)
    rank = torch.tensor(order, dtype=torch.long).argsort()
    shapes = [shapes[index] for index in order]
    # Ends without an optimum have index -1, and keep it.
    optimum = torch.where(optimum >= 0, rank[optimum.clamp_min(0)], -1) if len(shapes) else optimum
    joined = list(range(len(shapes)))
    if has_gradient:
        at = Climb(ends.position[followed], ends.value[followed], ends.is_at_rest[followed])
        joined = _joined(log_density, shapes, at, optimum[followed])
    labels = torch.where(optimum >= 0, torch.tensor([*joined, -1])[optimum], -1)
    labels[left] = max(joined, default=-1) + 1 + torch.arange(len(left))
    return Grouping(tuple(shapes), tuple(joined), labels, optimum, followed)


def _taken(log_density: LogDensity, ends: Climb, shape: Shape, index: int, optimum: Tensor, left: Tensor) -> Tensor:
    """The ends that are left after those that share an optimum with a shape have got its index."""
    if not len(left):
        return left
    close = shape.distances(ends.position[left]) <= SAME_PLACE
    is_same = close & ((ends.value[left] - shape.value).abs() <= LINE_DIP)
    (rest,) = (~is_same).nonzero(as_tuple=True)
    if len(rest):
        own = left[rest]
        dips = _line_dips(log_density, shape.center.expand(len(own), -1), ends.position[own], ends.value[own])
        is_same[rest] = dips <= LINE_DIP
    optimum[left[is_same]] = index
    return left[~is_same]


def _followed(log_density: LogDensity, ends: Climb, shapes: Sequence[Shape], optimum: Tensor, left: Tensor) -> Tensor:
    """The ends that are left after those that a path joins to a measured optimum have got its index."""
    centers = torch.stack([shape.center for shape in shapes])
    nearest = _nearest(shapes, ends.position[left])
    values = torch.tensor([shape.value for shape in shapes], dtype=torch.float64)[nearest]
    rise = values - ends.value[left]
    may_join = (rise.abs() <= MOST_RISE) | (~ends.is_at_rest[left] & (rise > 0))
    (tried,) = may_join.nonzero(as_tuple=True)
    if not len(tried):
        return left
    lower = torch.minimum(values, ends.value[left])[tried]
    dips = _path_dips(log_density, centers[nearest[tried]], ends.position[left[tried]], lower)
    is_one = torch.zeros_like(may_join)
    is_one[tried] = dips <= PATH_DIP
    optimum[left[is_one]] = nearest[is_one]
    return left[~is_one]


def _nearest(shapes: Sequence[Shape], x: Tensor) -> Tensor:
    """Index of the shape whose center is nearest to each row ``(n, d)``, in widths of the highest one ``(n,)``."""
    centers = torch.stack([shape.center for shape in shapes])
    return torch.cdist(shapes[0].whiten(x), shapes[0].whiten(centers)).argmin(1)


def _polished(log_density: LogDensity, shapes: list[Shape]) -> list[Shape]:
    """The shapes after more climbs, each in its own units, in which a narrow ridge or neck is round."""
    found, climbing = list(shapes), list(range(len(shapes)))
    for _ in range(MOST_POLISHES):
        climbing = _steep(log_density, found, climbing)
        if not climbing:
            return found
        here = [found[index] for index in climbing]
        centers, factors = torch.stack([one.center for one in here]), torch.stack([one.factor for one in here])

        def in_units(z: Tensor, rows: Tensor, centers: Tensor = centers, factors: Tensor = factors) -> Tensor:
            return log_density(centers[rows] + torch.einsum("nij,nj->ni", factors[rows], z))

        end = climb_rows(in_units, torch.zeros_like(centers), scale=0.1, most_steps=POLISH_STEPS)
        tops = torch.stack([shape.color(z[None])[0] for shape, z in zip(here, end.position, strict=True)])
        end = resolved(log_density, Climb(tops, end.value, end.is_at_rest))
        rose = [row for row, shape in enumerate(here) if float(end.value[row]) > shape.value + LINE_DIP]
        for row in rose:
            found[climbing[row]] = measure_shape(log_density, tops[row], scale=here[row].width)
        climbing = [climbing[row] for row in rose]
    return found


def _steep(log_density: LogDensity, shapes: Sequence[Shape], indices: Sequence[int]) -> list[int]:
    """Indices of shapes at whose center the log density is not yet level."""
    if not indices:
        return []
    _, gradients = value_and_gradient(log_density, torch.stack([shapes[index].center for index in indices]))
    slopes = [float((row @ shapes[index].factor).norm()) for index, row in zip(indices, gradients.double(), strict=True)]
    return [index for index, slope in zip(indices, slopes, strict=True) if slope > LEAST_SLOPE]


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


def _joined(
    log_density: LogDensity, shapes: Sequence[Shape], ends: Climb | None = None, optimum: Tensor | None = None
) -> list[int]:
    """Index of the mode of each optimum, after joining neighbours without a dip between them.

    Args:
        log_density: maps rows ``(n, d)`` to ``(n,)``.
        shapes: measured optima.
        ends: ends that a path has joined to an optimum already; neighbours may be found among them.
        optimum: index of that optimum ``(n,)``.
    """
    mode = list(range(len(shapes)))
    if len(shapes) < 2:
        return mode
    points = torch.stack([shape.center for shape in shapes])
    values, owner = torch.tensor([shape.value for shape in shapes], dtype=torch.float64), torch.arange(len(shapes))
    if ends is not None and optimum is not None:
        points, values = torch.cat([points, ends.position]), torch.cat([values, ends.value])
        owner = torch.cat([owner, optimum])
    edges = _spanning_tree(shapes[0].whiten(points))
    one, other = edges.T
    is_tried = (owner[one] != owner[other]) & ((values[one] - values[other]).abs() <= MOST_RISE)
    one, other = one[is_tried], other[is_tried]
    if not len(one):
        return mode
    is_one = _path_dips(log_density, points[one], points[other], torch.minimum(values[one], values[other])) <= PATH_DIP
    for first, second in zip(owner[one[is_one]].tolist(), owner[other[is_one]].tolist(), strict=True):
        kept, dropped = sorted((mode[first], mode[second]))
        mode = [kept if index == dropped else index for index in mode]
    order = sorted(set(mode))
    return [order.index(index) for index in mode]


def _path_dips(log_density: LogDensity, first: Tensor, second: Tensor, lower: Tensor) -> Tensor:
    """Nats by which the log density falls below ``lower`` on climbing paths between two sets of rows ``(n, d)``."""
    across = second - first
    across = across / across.norm(dim=1, keepdim=True).clamp_min(1e-300)  # two ends at one place: 0 in place of 0 / 0
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
