"""Decay along curved ridges, on which all coordinates change together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity
from drl_density.partition_function.tails.report import Tail

NUM_DOUBLINGS = 8
"""Doublings of the distance of the furthest draw up to which a ridge is followed."""
DEEPEST = 30.0
"""Nats below the highest draw, and as many again for each ten coordinates, at which a ridge has ended."""
MOST_STEPS, NUM_LENGTHS = 40, 10
"""Newton steps towards the crest, and lengths that are tried of each: the whole step and its halves."""
LEAST_GAIN = 1e-4
"""Nats that some crest has to rise by for a further step."""
FLATTEST = 1e-10
"""Smallest curvature, as a share of the largest, that a Newton step divides by."""


def follow_ridges(log_density: LogDensity, draws: Tensor, center: Tensor, scale: Tensor) -> list[Tail]:
    """Decay along the crest over each side of each coordinate, from the furthest draw on.

    A coordinate is held at distances that double, and the highest point over all others found by Newton steps. The mass
    at such a distance is the height there times the width across, by Laplace's approximation. Sides on which the density
    falls steeply, and ridges that no Newton step finds, are left out.

    Args:
        log_density: unnormalised log density of rows ``(n, d)``.
        draws: draws of the target ``(n, d)``.
        center: centre of every coordinate, ``(d,)``.
        scale: unit of every coordinate, ``(d,)``.

    >>> def bent(x):
    ...     return -torch.log1p(x[:, 0].abs()) - (x[:, 1] - x[:, 0].square()).square()
    >>> rows = torch.tensor([[0.0, 0.0], [2.0, 4.0]]).double()
    >>> tails = follow_ridges(bent, rows, torch.zeros(2).double(), torch.ones(2).double())
    >>> [(tail.label, abs(tail.exponent) < 0.1) for tail in tails]
    [('a ridge with coordinate 0 up', True), ('a ridge with coordinate 1 up', True)]
    """
    unit = (draws - center) / scale
    dim = unit.shape[1]

    def value(rows: Tensor) -> Tensor:
        return log_density(center + scale * rows)

    with torch.no_grad():
        floor = float(value(unit).max()) - DEEPEST * (1 + dim / 10)
    sides = [(index, side) for index in range(dim) for side in (-1, 1)]
    starts = torch.stack([unit[(side * unit[:, index]).argmax()] for index, side in sides])
    held = torch.tensor([index for index, _ in sides], device=unit.device)
    is_left = starts.gather(1, held[:, None])[:, 0] * torch.tensor([side for _, side in sides]).to(unit) > 0
    which = is_left.nonzero().flatten()
    crest, masses = starts, torch.full((NUM_DOUBLINGS + 1, len(sides)), -math.inf, dtype=unit.dtype, device=unit.device)
    try:
        for doubling in range(NUM_DOUBLINGS + 1):
            at = crest[which]
            if doubling:
                at = at.scatter(1, held[which, None], 2 * at.gather(1, held[which, None]))
            at, height, width = _crest(value, at, held[which])
            keep = height > floor
            crest, which = crest.index_put((which,), at), which[keep]
            if not len(which):
                return []
            masses[doubling, which] = (height + width)[keep]
    except RuntimeError:  # a target without second derivatives has no crest that Newton steps find
        return []
    unit_growth = (masses[1:] - masses[:-1]) / math.log(2) + 1.0
    furthest = crest.gather(1, held[:, None])[:, 0].abs().log2()
    return [
        Tail(
            f"a ridge with coordinate {sides[place][0]} {'up' if sides[place][1] > 0 else 'down'}",
            is_stretch=True,
            exponents=tuple(unit_growth[:, place].tolist()),
            steps=float(furthest[place]),
            missing=0.0,
            beyond=0.0,
        )
        for place in which.tolist()
    ]


def _crest(value: LogDensity, rows: Tensor, held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The highest points near rows ``(n, d)`` with one coordinate of each held, their heights and log widths across."""
    lengths = 0.5 ** torch.arange(NUM_LENGTHS, dtype=rows.dtype, device=rows.device)
    for _ in range(MOST_STEPS):
        height, gradient, curvatures, vectors = _expansion(value, rows, held)
        step = (vectors @ ((vectors.mT @ gradient[..., None]) / curvatures[..., None]))[..., 0]
        tried = rows[:, None] + lengths[:, None] * step[:, None]
        with torch.no_grad():
            heights = value(tried.flatten(0, 1)).reshape(len(rows), -1)
        best, at = torch.where(heights.isnan(), -math.inf, heights).max(1)
        gain = best - height
        rows = torch.where((gain > 0)[:, None], tried[torch.arange(len(rows)), at], rows)
        if not bool((gain > LEAST_GAIN).any()):
            break
    height, _, curvatures, _ = _expansion(value, rows, held)
    # The coordinate that is held has curvature 1, and so no part in the width.
    width = 0.5 * ((rows.shape[1] - 1) * math.log(2 * math.pi) - curvatures.log().sum(1))
    return rows, height, width


def _expansion(value: LogDensity, rows: Tensor, held: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Heights, gradients, and absolute curvatures with their axes, in all coordinates but the held one.

    Raises:
        RuntimeError: a target without second derivatives.
    """
    with torch.enable_grad():
        at = rows.detach().requires_grad_(True)
        heights = value(at)
        (gradient,) = torch.autograd.grad(heights.sum(), at, create_graph=True)
        columns = [
            torch.autograd.grad(gradient[:, index].sum(), at, retain_graph=True)[0] for index in range(rows.shape[1])
        ]
    hessian = torch.stack(columns, 1).detach()
    # Curvature that is not a number, as beside a wall, counts as none.
    hessian = torch.where(hessian.isfinite(), 0.5 * (hessian + hessian.mT), 0.0)
    is_held = torch.nn.functional.one_hot(held, rows.shape[1]).bool()
    hessian = torch.where(is_held[:, :, None] | is_held[:, None, :], 0.0, hessian) - torch.diag_embed(is_held.to(hessian))
    values, vectors = torch.linalg.eigh(-hessian)
    curvatures = values.abs()
    # A direction without curvature is one in which a Newton step would be infinitely long.
    curvatures = torch.maximum(curvatures, FLATTEST * curvatures.amax(1, keepdim=True))
    return heights.detach(), torch.where(is_held, 0.0, gradient.detach()), curvatures, vectors
