"""Preparation of a target: flat coordinates in float64, a constant taken off, and what has to be said about it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor

from drl_density.distributions.energy import EnergyDistribution
from drl_density.distributions.experts import log_density_of
from drl_density.distributions.pyro_models.joint import JointDensity
from drl_density.errors import DRLDensityWarning
from drl_density.partition_function.target_bases.contract import GivenBase
from drl_density.partition_function.targets.contract import Target, WideBase, require_one_target, support_of
from drl_density.partition_function.targets.coordinates import Coordinates
from drl_density.partition_function.targets.flat_base import alive_base, flat_base
from drl_density.partition_function.targets.flat_density import FlatDensity, Rejections
from drl_density.partition_function.targets.ground import find_ground, highest_value
from drl_density.partition_function.targets.source import Source, examine_source, with_gradient_known
from drl_density.partition_function.targets.units import find_units
from drl_density.records.brief import brief

LARGEST_ROUNDING = 0.01
"""Nats by which rounding may change a log density before it is reported; 1 nat biases log Z by 0.04."""
NUM_TRIED, LEAST_ALIVE = 512, 0.02
"""Draws by which the width of a first base is chosen, and the share of them at which the target has to have density."""
WIDTHS = tuple(2.0**-index for index in range(31))
"""Widths of a first base that are tried, in units of the coordinates."""


@dataclass(frozen=True, eq=False)
class PreparedTarget:
    """A target as every stage of log Z sees it.

    Attributes:
        log_density: unnormalised log density of rows ``(n, d)`` over all reals, float64, less ``offset``. It is never NaN,
            and counts the points without density.
        coordinates: map from these rows to points of the target.
        start: normalised base at which a first pilot begins, over rows ``(n, d)``: the given one, else N(0, I), or a
            narrower one in a small box, or around a place with density where the origin has none near. Its draws are kept
            to places where the target has density, so it serves only pilots that are thrown away.
        base: the given base over rows ``(n, d)``, ``None`` without one.
        data: given data as rows ``(n, d)``, ``None`` without them.
        offset: constant to be added back to every log Z, nats: the largest log density found so far.
        has_gradient: whether the log density has a gradient; where it has none, autograd finds zeros.
        has_ends: whether the target's points are mapped from the reals, here or by a Pyro model, so that numbers may end.
        rounding: nats by which the type of the target's numbers rounds its largest log densities.
        remarks: what a reader of the result should know, in sentences without full stop.
    """

    log_density: FlatDensity
    coordinates: Coordinates
    start: GivenBase
    base: GivenBase | None
    data: Tensor | None
    offset: float
    has_gradient: bool
    has_ends: bool
    rounding: float
    remarks: tuple[str, ...]

    __repr__ = brief

    @property
    def num_features(self) -> int:
        """Number d of coordinates."""
        return self.coordinates.num_features

    @property
    def hold(self) -> Callable[[Tensor], Tensor] | None:
        """Whether the values at rows are those of the target, ``None`` where numbers do not end."""
        return self.log_density.uncounted().hold if self.has_ends else None

    @property
    def rejections(self) -> Rejections:
        """Counts of the points without density among those evaluated so far."""
        return self.log_density.rejections


def prepare_target(
    target: Target,
    *,
    base: WideBase | None = None,
    data: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> PreparedTarget:
    """Move a target to flat coordinates over all reals, find out how to evaluate it, and take off a constant.

    Args:
        target: distribution with ``unnormalized_log_prob`` or ``log_prob``, over any support with a bijection.
        base: normalised distribution of the target's event shape, over the same support.
        data: rows ``(n, *event)`` known to lie where the target has mass.

    Raises:
        ValueError: a target that is no log density of single points, or has no density anywhere near; a base or rows of
            another event shape; rows without density. The message names the cause.

    >>> prepared = prepare_target(dist.Exponential(torch.ones(3)).to_event(1))
    >>> prepared.num_features, prepared.has_gradient, prepared.remarks
    (3, True, ())
    >>> prepared.log_density(torch.zeros(2, 3).double()) + prepared.offset
    tensor([-3., -3.], dtype=torch.float64)
    """
    require_one_target(target)
    shape = target.event_shape
    if base is not None and base.event_shape != shape:
        raise ValueError(f"base and target must have one event shape, got {tuple(base.event_shape)} and {tuple(shape)}")
    coordinates = Coordinates.onto(support_of(target), shape)
    source = _examined(target, coordinates)
    flat = FlatDensity(source, coordinates)
    rows = None if data is None else _flat_rows(data, flat)
    given = None if base is None else flat_base(base, coordinates)
    ground = find_ground(flat, base=given, data=None if rows is None else rows[0], generator=generator)
    source = with_gradient_known(source, coordinates.to_event(ground.rows))
    center, unit = find_units(flat, ground, base=given, data=None if rows is None else rows[0], generator=generator)
    coordinates = coordinates.rescaled(center, unit)
    ground = ground.moved(center, unit)
    offset = highest_value(FlatDensity(source, coordinates), ground)
    log_density = FlatDensity(source, coordinates, offset=offset, dtype=source.precision).counted()
    given = None if base is None else flat_base(base, coordinates)
    start = given or _widest_normal(log_density.uncounted(), ground.rows[0], generator)
    rounding = torch.finfo(source.precision).eps * abs(offset)
    remarks = _remarks(source, rounding)
    moved = None
    if rows is not None:
        moved, num_dead = (rows[0] - center) / unit, rows[1]
        if num_dead:
            remarks += (f"{num_dead} of {num_dead + len(moved)} rows of data have no density and were left out",)
    return PreparedTarget(
        log_density=log_density,
        coordinates=coordinates,
        start=alive_base(start, log_density.uncounted()),
        base=given,
        data=moved,
        offset=offset,
        has_gradient=source.has_gradient,
        has_ends=coordinates.transform is not None or _is_joint(target),
        rounding=rounding,
        remarks=remarks,
    )


def _widest_normal(log_density: FlatDensity, place: Tensor, generator: torch.Generator | None) -> GivenBase:
    """N(0, I), or the widest N(0, s^2 I) with s a power of 1/2 that puts enough draws where the target has density.

    In a box of many dimensions hardly a draw of N(0, I) lies inside. Where too few of any width do, as behind a wall that
    the origin is far from, the normal may surround a place with density ``(d,)`` in place of the origin. A single draw that
    happens to lie inside is no reason to stay: the next thousands need not.
    """
    num_features = log_density.coordinates.num_features
    noise = torch.randn(NUM_TRIED, num_features, generator=generator, dtype=torch.float64)
    best, chosen = -1.0, (place, WIDTHS[-1])
    for center in (torch.zeros_like(place), place):
        for width in WIDTHS:
            with torch.no_grad():
                share = float((log_density(center + width * noise) > -math.inf).double().mean())
            if share > best:
                best, chosen = share, (center, width)
            if share >= LEAST_ALIVE:
                break
        if best >= LEAST_ALIVE:
            break
    center, width = chosen
    normal = dist.Normal(center, width).to_event(1)
    return flat_base(normal, Coordinates.onto(None, normal.event_shape))


def _is_joint(target: Target) -> bool:
    """Whether a target is the joint density of a Pyro model, which maps the reals onto its sites itself."""
    return isinstance(target, EnergyDistribution) and isinstance(target.log_density, JointDensity)


def _examined(target: Target, coordinates: Coordinates) -> Source:
    """How the target's log density is evaluated, found at points from the middle of its support."""
    generator = torch.Generator().manual_seed(0)
    near = torch.randn(16, coordinates.num_features, generator=generator, dtype=torch.float64)
    return examine_source(target, log_density_of(target), coordinates.to_event(near))


def _flat_rows(data: Tensor, log_density: FlatDensity) -> tuple[Tensor, int]:
    """Rows of data with density in flat coordinates ``(n, d)``, and the number of those without.

    Raises:
        ValueError: rows of another shape, or none with density.
    """
    shape = log_density.coordinates.event_shape
    if data.ndim != len(shape) + 1 or data.shape[1:] != shape or not len(data):
        raise ValueError(f"expected data of shape (n, *{tuple(shape)}), at least one row, got {tuple(data.shape)}")
    rows = log_density.coordinates.to_flat(data)
    with torch.no_grad():
        is_alive = log_density(rows).isfinite()
    if not bool(is_alive.any()):
        raise ValueError(
            f"the target has no density at any of the {len(rows)} rows of data (minus infinity, NaN, or outside its "
            "support): give rows in the target's own coordinates"
        )
    return rows[is_alive], int((~is_alive).sum())


def _remarks(source: Source, rounding: float) -> tuple[str, ...]:
    remarks: tuple[str, ...] = ()
    if not source.has_gradient:
        remarks += ("the log density has no gradient, so chains take random-walk steps",)
    if source.precision != torch.float64 and rounding > LARGEST_ROUNDING and math.isfinite(rounding):
        name = str(source.precision).removeprefix("torch.")
        remark = (
            f"log densities in {name} are rounded by {rounding:.2g} nats here: compute them in float64, or subtract a "
            "constant from them"
        )
        warnings.warn(remark, DRLDensityWarning, stacklevel=4)
        remarks += (remark,)
    return remarks
