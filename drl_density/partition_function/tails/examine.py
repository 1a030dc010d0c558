r"""Decay, integrability and reach of a target's tails, from draws that are moved outwards.

A map T moves the bulk outwards, for instance by doubling distances along one axis. For draws x of the target p and a part A
of the bulk, :math:`P(T A) = E[1_A(x)\, f(T x)\, |T'(x)| / f(x)]`: the mass of the moved part is known without a single draw
there. Moved parts of one family are disjoint, so that a mass which does not fall along the family proves that the integral
is infinite. Where the mass falls, moved draws say how much lies out there, and whether the draws themselves reach it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity
from drl_density.partition_function.tails.ends import NUM_HALVINGS, Hold, follow_to_the_end
from drl_density.partition_function.tails.moves import FAR_SHARE, DriverShift, Move, Stretch, gains
from drl_density.partition_function.tails.report import Integrability, Tail, TailReport
from drl_density.partition_function.tails.ridges import follow_ridges
from drl_density.partition_function.target_bases.contract import DrivenChart
from drl_density.partition_function.target_bases.student import quartile_spread
from drl_density.records.intervals import normal_quantile, student_quantile

FLAT, SLOW = -1e-4, -0.05
"""Exponents above which mass does not fall, and falls too slowly to be distinguished from a logarithm's. The mass of
1 / (x log^2 x), which has a finite integral, and of 1 / (x log x), which has none, both end at about -0.02."""
FLAT_AXIS, FURTHEST_AXIS = 0.5, 1e6
"""Exponent above which a rotated axis counts as flat, and the largest stretch along it. Its direction is known to about
1e-8 only, so that a curved direction beside it takes over further out."""
STEEPEST_FLAT_AXIS = 1.5
"""Exponent below which an axis counts as flat, for points that may lie far from the mass; a constant density has 1."""
CONSTANT, ALMOST_CONSTANT = 1 - 1e-6, 0.8
"""Exponents, for each axis, above which the log density does not fall at all, before the last doubling and in it, where
numbers are rounded by up to 0.1 nats. Where they end soon only that shows that the integral is infinite."""
NUM_STEPS = 12
"""Steps from the bulk within which the mass of moved draws is compared with that of the draws."""
MOST_AXES = 24
"""Coordinates that are stretched one by one; those with the heaviest draws where there are more."""
MOST_EVALUATIONS = 100_000
"""Evaluations of the target along axes, about. Shifts of a driver, which find necks, take all draws."""
PROBABILITY = 0.995
"""Probability of the interval beyond which a difference between draws and moved draws is not chance. By the error of
independent draws it holds for all families and steps together. By the spread of a few replicates it holds for each: their
quantiles for so many comparisons would exceed any difference."""
LEAST_MISSING = 3e-3
"""Smallest share of the mass that counts as missing."""


def examine_tails(
    log_density: LogDensity,
    draws: Tensor,
    *,
    chart: DrivenChart | None = None,
    hold: Hold | None = None,
    generator: torch.Generator | None = None,
) -> TailReport:
    """Examine how a target decays, whether its integral is finite, and whether draws reach its tails.

    Distances from the median are doubled along every coordinate, along the longest and flattest axes, along all coordinates
    of slow decay together, and along all; with a regression of scales its driver is moved too, with places and scales. Up
    to 24 dimensions curved ridges are followed as well.

    Args:
        log_density: unnormalised log density of rows ``(n, d)``.
        draws: draws of the target ``(replicate, n, d)``, of at least two independent replicates.
        chart: regression of scales fitted to the target, where there is one.
        hold: see :func:`screen_tails`.
        generator: source of the choice of draws that are moved.

    >>> draws = torch.randn(4, 100, 2, generator=torch.Generator().manual_seed(0))
    >>> str(examine_tails(lambda x: -0.5 * (x**2).sum(-1), draws).integrability)
    'integrable'
    """
    moves = list(_moves(log_density, draws, chart, hold))
    each = NUM_STEPS + 5 + (0 if hold is None else NUM_HALVINGS)
    most = max(16, MOST_EVALUATIONS // ((len(moves) + 2) * each * len(draws)))
    chosen = torch.randperm(draws.shape[1], generator=generator)[:most]
    every = torch.arange(draws.shape[1])
    tails = [
        _follow(move, log_density, hold, draws, every if isinstance(move, DriverShift) else chosen, len(moves))
        for move in moves
    ]
    # Coordinates that are infinite together only, by a power of their joint distance, each have at least this exponent.
    dim = draws.shape[2]
    slow = [move for move, tail in zip(moves, tails, strict=True) if _is_coordinate(move) and tail.exponent > -dim]
    joint = _together(slow)
    if joint is not None and joint.num_axes < dim:
        moves.append(joint)
        tails.append(_follow(joint, log_density, hold, draws, chosen, len(moves)))
    judged = [(_judge(move, tail), tail) for move, tail in zip(moves, tails, strict=True)]
    judged += [
        (Integrability.UNDECIDED if ridge.exponent > SLOW else Integrability.INTEGRABLE, ridge)
        for ridge in _ridges(log_density, draws)
    ]
    found, deciding = _deciding(judged)
    return TailReport(found, tuple(tail for _, tail in judged), deciding)


def screen_tails(log_density: LogDensity, rows: Tensor, *, hold: Hold | None = None) -> TailReport | None:
    """A report where the integral is seen to be infinite from any points with density, ``None`` elsewhere.

    The growth of moved mass far out does not depend on where the points lie, so no draws of the target are needed. Axes
    that are no coordinates are followed over a shorter distance, within which a far mode can make the mass grow too. They
    decide only where the log density hardly changes along them.

    Args:
        log_density: unnormalised log density of rows ``(n, d)``.
        rows: points with density ``(replicate, n, d)``.
        hold: whether the values at rows ``(n, d)`` are those of the target and not of the end of the numbers that its
            support is made of, ``(n,)``; everywhere when not given. Decay is measured within, and the mass beyond
            extrapolated by a power of the distance.

    >>> rows = torch.randn(2, 64, 2, generator=torch.Generator().manual_seed(0)).double()
    >>> str(screen_tails(lambda x: 0.0 * x.sum(-1), rows))
    'along all coordinates the mass does not fall, out to 2e+51 times the bulk'
    >>> screen_tails(lambda x: -0.5 * x.square().sum(-1), rows)
    """
    judged = []
    for move in _moves(log_density, rows, None, hold):
        tail = _follow_far(move, log_density, hold, rows)
        found = _judge(move, tail)
        if found is Integrability.IMPROPER and (_is_followed_far(move) or tail.exponent < STEEPEST_FLAT_AXIS):
            judged.append((found, tail))
    if not judged:
        return None
    return TailReport(Integrability.IMPROPER, tuple(tail for _, tail in judged), _deciding(judged)[1])


def _ridges(log_density: LogDensity, draws: Tensor) -> list[Tail]:
    """Decay along curved ridges, in dimensions that allow for second derivatives."""
    rows = draws.flatten(0, 1)
    if not 1 < rows.shape[1] <= MOST_AXES:
        return []
    return follow_ridges(log_density, rows, rows.median(0).values, quartile_spread(rows))


def _deciding(judged: list[tuple[Integrability, Tail]]) -> tuple[Integrability, Tail]:
    """The worst judgement, and the tail of slowest decay among those that led to it."""
    order = (Integrability.INTEGRABLE, Integrability.UNDECIDED, Integrability.IMPROPER)
    return max(judged, key=lambda pair: (order.index(pair[0]), pair[1].is_stretch, pair[1].exponent))


def _moves(log_density: LogDensity, draws: Tensor, chart: DrivenChart | None, hold: Hold | None) -> Iterator[Move]:
    """Families of maps that are followed."""
    rows = draws.flatten(0, 1)
    center, scale = rows.median(0).values, quartile_spread(rows)
    dim, furthest = rows.shape[1], float(torch.finfo(rows.dtype).max) ** FAR_SHARE
    one_hot = torch.eye(dim, dtype=rows.dtype, device=rows.device)
    sizes = ((rows - center).abs() / scale).quantile(0.99, 0) if len(rows) < 1_000_000 else scale / scale
    for index in sorted(sizes.argsort(descending=True)[:MOST_AXES].tolist()):
        whole = Stretch(f"coordinate {index}", center, scale, one_hot[:, [index]], furthest)
        ends = torch.stack([center + side * furthest * scale * one_hot[index] for side in (-1, 1)])
        if hold is None or bool(hold(ends).all()):
            yield whole
            continue
        # The numbers of a support may end at very different distances on both sides.
        for side, word in ((-1, "down"), (1, "up")):
            yield dataclasses.replace(whole, label=f"{whole.label} {word}", side=side)
    if dim == 1:
        return
    yield Stretch("all coordinates", center, scale, None, furthest)
    for label, axis in _rotated_axes(log_density, (rows - center) / scale, center, scale):
        yield Stretch(label, center, scale, axis[:, None], FURTHEST_AXIS)
    if chart is not None:
        middle = float(chart.to_unit(rows)[:, 0].median())
        yield from (DriverShift(chart, sign, middle) for sign in (-1, 1))


def _rotated_axes(log_density: LogDensity, unit: Tensor, center: Tensor, scale: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The longest axis of the draws, and the direction of least curvature at the most probable draw."""
    spread = unit.clamp(-10, 10)  # so that a few far draws along one coordinate are not the longest axis
    _, vectors = torch.linalg.eigh(spread.T @ spread)
    yield "the longest axis of the draws", vectors[:, -1]
    if unit.shape[1] > MOST_AXES:
        return
    with torch.no_grad():
        best = unit[log_density(center + scale * unit).argmax()]

    def value(at: Tensor) -> Tensor:
        return log_density((center + scale * at)[None])[0]

    with torch.enable_grad():
        try:
            curvature = torch.autograd.functional.hessian(value, best)
        except RuntimeError:  # a target without gradient has no curvature that could be asked for
            return
    if not bool(curvature.isfinite().all()):  # pyright: ignore[reportAttributeAccessIssue] (stub: a tuple for several inputs)
        return
    values, vectors = torch.linalg.eigh(curvature)  # pyright: ignore[reportArgumentType] (the same)
    flattest = vectors[:, values.abs().argmin()]
    yield "the direction of least curvature", flattest


def _is_followed_far(move: Move) -> bool:
    """Whether a stretch is followed over the whole range of numbers."""
    return isinstance(move, Stretch) and move.furthest > FURTHEST_AXIS


def _is_coordinate(move: Move) -> bool:
    return isinstance(move, Stretch) and move.num_axes == 1 and move.furthest > FURTHEST_AXIS


def _together(moves: list[Move]) -> Stretch | None:
    """The joint stretch of several coordinates, ``None`` where they are fewer than two."""
    stretches = [move for move in moves if isinstance(move, Stretch) and move.axes is not None]
    columns = [move.axes for move in stretches if move.axes is not None]
    axes = torch.cat(columns, 1).unique(dim=1) if columns else None  # both sides of a coordinate share an axis
    if axes is None or axes.shape[1] < 2:
        return None
    first = stretches[0]
    return Stretch(f"{axes.shape[1]} coordinates of slow decay", first.center, first.scale, axes, first.furthest)


def _follow(
    move: Move, log_density: LogDensity, hold: Hold | None, draws: Tensor, chosen: Tensor, num_families: int
) -> Tail:
    """Follow the mass of the bulk along one of several families of maps, and compare it with the draws further out."""
    replicates, count, dim = draws.shape
    place = move.place(draws.flatten(0, 1)).reshape(replicates, count)
    far = _follow_far(move, log_density, hold, draws[:, chosen], start := _start(move, place))
    is_bulk = ((place >= start) & (place < start + 1))[:, chosen].flatten()
    if not math.isfinite(start) or not bool(is_bulk.any()):
        return far
    bulk = draws[:, chosen].reshape(-1, dim)[is_bulk]
    steps = torch.stack([gains(move, log_density, bulk, float(step)) for step in range(1, NUM_STEPS + 1)], 1).exp()
    # Mass beyond each step: what the moved draws predict, and what the draws hold.
    beyond = steps.flip(1).cumsum(1).flip(1)
    predicted = torch.zeros(replicates * len(chosen), NUM_STEPS, dtype=steps.dtype, device=steps.device)
    predicted[is_bulk] = beyond
    edges = start + torch.arange(1, NUM_STEPS + 2, dtype=place.dtype, device=place.device)
    further = (place[..., None] >= edges).double()
    seen = further[..., :-1] - further[..., -1:]
    predicted = predicted.reshape(replicates, len(chosen), NUM_STEPS)
    missing, at = _missing(predicted.cpu(), seen.cpu(), num_families * NUM_STEPS)
    return far if far.missing > missing else dataclasses.replace(far, missing=missing, beyond=at)


def _start(move: Move, place: Tensor) -> float:
    """Steps at which the bulk begins: the median, of the draws on the side of a stretch that has one."""
    is_sided = isinstance(move, Stretch) and move.side != 0
    inside = place[place > -math.inf] if is_sided else place.flatten()
    return float(inside.median()) if len(inside) else -math.inf


def _follow_far(
    move: Move, log_density: LogDensity, hold: Hold | None, draws: Tensor, start: float | None = None
) -> Tail:
    """Follow the mass of the bulk of draws ``(replicate, n, d)`` far out, without a look at the draws' own reach."""
    rows = draws.flatten(0, 1)
    place = move.place(rows)
    start = _start(move, place) if start is None else start
    bulk = rows[(place >= start) & (place < start + 1)]
    if not math.isfinite(start) or not len(bulk):
        # Half of the draws lie at the centre: the coordinate has no width that could be stretched.
        return Tail(move.label, isinstance(move, Stretch), (-math.inf,), 0.0, 0.0, 0.0)
    if hold is not None and not bool(hold(move.moved(bulk, move.far_steps[-1])[0]).all()):
        return follow_to_the_end(move, log_density, hold, bulk, len(rows))
    far = [float(gains(move, log_density, bulk, num_steps).logsumexp(0)) for num_steps in move.far_steps]
    unit = math.log(2) if isinstance(move, Stretch) else 1.0
    exponents = tuple(
        _slope(first, second, unit * (b - a))
        for first, second, a, b in zip(far, far[1:], move.far_steps, move.far_steps[1:], strict=False)
    )
    return Tail(move.label, isinstance(move, Stretch), exponents, move.far_steps[-1], 0.0, 0.0)


def _slope(first: float, second: float, distance: float) -> float:
    """Growth of a log mass per unit of distance; minus infinity where nothing is left, infinity where it overflows."""
    if second == -math.inf:
        return -math.inf
    return math.inf if second == math.inf or first == -math.inf else (second - first) / distance


def _missing(predicted: Tensor, seen: Tensor, num_comparisons: int) -> tuple[float, float]:
    """Largest mass beyond some step that moved draws find and draws do not, and that step; zeros within chance.

    A gap has to show beside the spread over replicates and beside the error of independent draws: a few replicates agree by
    luck often enough, and several steps and families are looked at. The error of the draws' own share is the one that it
    has if the moved draws are right: the share that was seen may be small, and its error with it, because it is too small.

    Args:
        predicted: mass beyond each step by each moved draw, 0 outside the bulk, ``(replicate, m, steps)``.
        seen: whether each draw lies beyond each step ``(replicate, n, steps)``.
        num_comparisons: number of steps of all families.
    """
    gap = predicted.mean(1) - seen.mean(1)
    mean, between = gap.mean(0), gap.std(0) / math.sqrt(len(gap))
    own, own_seen = (values.flatten(0, 1).var(0) / values[..., 0].numel() for values in (predicted, seen))
    share = predicted.mean((0, 1)).clamp(0, 1)  # moved draws may find more than all of the mass
    own_seen = torch.maximum(own_seen, share * (1 - share) / seen[..., 0].numel())
    by_replicates = student_quantile(len(gap) - 1, PROBABILITY) * between
    by_draws = normal_quantile(1 - (1 - PROBABILITY) / num_comparisons) * (own + own_seen).sqrt()
    is_sure = (mean > LEAST_MISSING) & (mean > torch.maximum(by_replicates, by_draws))
    if not bool(is_sure.any()):
        return 0.0, 0.0
    step = int(torch.where(is_sure, mean, -math.inf).argmax())
    return float(mean[step]), float(step + 1)


def _judge(move: Move, tail: Tail) -> Integrability:
    """Whether the integral is finite as far as one family of maps shows."""
    last = tail.exponent
    if tail.is_cut:
        if isinstance(move, Stretch) and _is_constant(tail, move.num_axes):
            return Integrability.IMPROPER
        return Integrability.UNDECIDED if last > SLOW else Integrability.INTEGRABLE
    if isinstance(move, Stretch) and not _is_followed_far(move):
        # A steep rise after a fall is the way out of a region of lower density, as behind a neck.
        is_passage = last > STEEPEST_FLAT_AXIS and tail.exponents[-2] < FLAT
        return Integrability.IMPROPER if last > FLAT_AXIS and not is_passage else Integrability.INTEGRABLE
    if last > FLAT:
        return Integrability.IMPROPER
    return Integrability.UNDECIDED if last > SLOW else Integrability.INTEGRABLE


def _is_constant(tail: Tail, num_axes: int) -> bool:
    """Whether the log density does not fall at all before the numbers of the support end.

    Where one of several coordinates comes to its end, others may still be on their way through a mode: a density that grows
    along them says nothing about its tail.
    """
    is_level = tail.exponents[-2] >= CONSTANT * num_axes and tail.exponent >= ALMOST_CONSTANT * num_axes
    return is_level and (num_axes == 1 or max(tail.exponents[-2:]) < STEEPEST_FLAT_AXIS * num_axes)
