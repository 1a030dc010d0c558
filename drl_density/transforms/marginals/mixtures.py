"""Marginal densities of all columns at once: mixtures of logistic components in a coordinate of each column."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.records.brief import brief
from drl_density.transforms.marginals.histogram import Histogram
from drl_density.transforms.marginals.spikes import Spikes

COORDINATES = ("linear", "asinh", "above", "below", "between", "cells")
BLOCK = 24
"""Components evaluated at once: with a thousand rows, what is computed on the way stays in the cache of a CPU core."""
FEW = 512
"""Values up to which all columns are evaluated at once, padding included: fewer calls cost less than fewer numbers."""
FARTHEST = 345.0
"""Greatest asinh coordinate: the square of its value, 1e149, is still finite, so its derivatives are too."""


@dataclass(frozen=True, eq=False)
class _Mixtures:
    """Logistic mixtures of some columns with equally many components.

    Attributes:
        columns: indices of the columns, ``(m,)``.
        log_weights: log weights of the components, ``(m, components)``.
        locations: centres of the components, ``(m, components)``.
        scales: scales of the components, ``(m, components)``.
    """

    columns: Tensor
    log_weights: Tensor
    locations: Tensor
    scales: Tensor

    __repr__ = brief

    @classmethod
    def of(cls, marginals: Marginals, columns: Tensor) -> _Mixtures:
        """The mixtures of ``columns``, which have equally many components, without the padding."""
        is_present = marginals.log_weights[columns] > -math.inf
        shape = (len(columns), -1)
        parts = (marginals.log_weights, marginals.locations, marginals.scales)
        return cls(columns, *(part[columns][is_present].reshape(shape) for part in parts))

    def log_parts(self, y: Tensor) -> Tensor:
        """log density, log CDF and log survival function of coordinates ``y`` ``(m, *)``, stacked ``(3, m, *)``."""
        locations, scales, weights = (
            _for_broadcast(part, y) for part in (self.locations, self.scales, self.log_weights)
        )
        z = (y.unsqueeze(1) - locations) / scales
        shares, p, q = weights.exp(), torch.sigmoid(z), torch.sigmoid(-z)
        below = shares * p
        sums = torch.stack([(below * q / scales).sum(1), below.sum(1), (shares * q).sum(1)])
        # Sums of probabilities take half the time of sums of logs, and lose digits only where they come near underflow.
        finite = torch.finfo(sums.dtype)
        is_lost = ~(sums > finite.tiny / finite.eps).all(0)
        places = true_places(is_lost)
        if places is None:
            return torch.where(is_lost, _log_sums(z, weights, scales, 1), torch.where(is_lost, 1.0, sums).log())
        if not len(places[0]):
            return sums.log()
        weights, scales = (part.to(y)[places[0]] for part in (self.log_weights, self.scales))
        logs = _log_sums(z.movedim(1, -1)[places], weights, scales, -1)
        pairs = zip(torch.where(is_lost, 1.0, sums).log(), logs, strict=True)
        return torch.stack([part.index_put(places, log) for part, log in pairs])


@dataclass(frozen=True, eq=False)
class Marginals:
    r"""Independent column densities: mixtures of logistic components in the coordinate y of each column.

    The coordinates are linear, asinh (whose exponential tails in y are Pareto tails in x), log distance above a lower
    bound, log distance below an upper bound, or logit between two. Cumulative probabilities are kept as logs. A column with
    a closed support has the coordinate "cells", the logit of its :class:`Histogram`, and one standard component. The mixture
    of a column with frequent single values is the slab beside its :class:`Spikes`.

    Attributes:
        coordinates: coordinate of every column: "linear", "asinh", "above", "below", "between" or "cells".
        centers: location of every column in x, ``(d,)``.
        widths: scale of every column in x, ``(d,)``; the width of the cells of a closed support.
        lower: lower bound of every column, -inf for none.
        upper: upper bound of every column, inf for none.
        log_weights: log weights of the components, ``(d, components)``, padded with -inf.
        locations: centres of the components in y, ``(d, components)``.
        scales: scales of the components in y, ``(d, components)``.
        values: permitted values of closed supports, ``(d, cells)``, padded with inf; without columns where there are none.
        log_shares: log probabilities of these values, ``(d, cells)``, padded with -inf.
        spike_lower: lower ends of the cells of frequent values, ``(d, spikes)``, padded with inf; empty without any.
        spike_upper: their upper ends, ``(d, spikes)``, padded with inf.
        spike_log_shares: log probabilities of these cells, ``(d, spikes)``, padded with -inf.
        histograms: the histogram of every column whose coordinate is "cells", by its index.
        spikes: the spikes of every column that has some, by its index.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> marginals = Marginals(("linear",), zero, one, zero, one, zero[None], zero[None], one[None])
    >>> marginals.log_density(torch.zeros(1, 1)).exp()
    tensor([[0.2500]])
    """

    coordinates: tuple[str, ...]
    centers: Tensor
    widths: Tensor
    lower: Tensor
    upper: Tensor
    log_weights: Tensor
    locations: Tensor
    scales: Tensor
    values: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    log_shares: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    spike_lower: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    spike_upper: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    spike_log_shares: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    histograms: Mapping[int, Histogram] = field(init=False, repr=False)
    spikes: Mapping[int, Spikes] = field(init=False, repr=False)
    _kinds: tuple[Tensor, ...] = field(init=False, repr=False)
    _kind_order: Tensor = field(init=False, repr=False)
    _mixtures: tuple[_Mixtures, ...] = field(init=False, repr=False)
    _mixture_order: Tensor = field(init=False, repr=False)
    _padded: _Mixtures = field(init=False, repr=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        """Sort the columns once by what is evaluated together."""
        cells = [index for index, kind in enumerate(self.coordinates) if kind == "cells"]
        open_kinds = [kind for kind in COORDINATES if kind != "cells"]
        alike = [[index for index, own in enumerate(self.coordinates) if own == kind] for kind in open_kinds]
        kinds = [group for group in alike if group] + [[index] for index in cells]
        counts = (self.log_weights > -math.inf).sum(1)
        mixtures = [
            _Mixtures.of(self, columns)
            for count in counts.unique().tolist()
            for columns in (counts == count).nonzero().flatten().split(max(1, BLOCK // max(1, count)))
        ]
        # Sorted here and not at the first use, which may lie inside vmap or inference mode, whose tensors must not be kept.
        for name, value in {
            "histograms": {index: self._histogram(index) for index in cells},
            "_kinds": tuple(torch.tensor(group) for group in kinds),
            "_kind_order": torch.tensor([index for group in kinds for index in group], dtype=torch.long).argsort(),
            "_mixtures": tuple(mixtures),
            "_mixture_order": torch.cat([mixture.columns for mixture in mixtures]).argsort(),
            "_padded": _Mixtures(torch.arange(len(counts)), self.log_weights, self.locations, self.scales),
        }.items():
            object.__setattr__(self, name, value)
        has_spikes = (self.spike_log_shares > -math.inf).any(1).nonzero().flatten().tolist()
        object.__setattr__(self, "spikes", {index: self._spikes(index) for index in has_spikes})

    def _spikes(self, index: int) -> Spikes:
        is_spike = self.spike_log_shares[index] > -math.inf
        tables = (self.spike_lower, self.spike_upper, self.spike_log_shares)
        lower, upper, log_shares = (table[index][is_spike].double() for table in tables)
        # The slab is evaluated at the ends of the cells, in a row each; other columns are at their centres.
        points = self.centers.double().repeat(2 * len(lower), 1)
        points[:, index] = torch.cat([lower, upper])
        _, below, above = (part[:, index].reshape(2, -1) for part in self.log_parts(self.to_coordinate(points)[0]))
        return Spikes(lower, upper, log_shares, below, above)

    def _histogram(self, index: int) -> Histogram:
        is_value = self.values[index] < math.inf
        return Histogram(self.values[index][is_value], float(self.widths[index]), self.log_shares[index][is_value])

    def tensors(self) -> dict[str, Tensor]:
        """All parameters but the coordinates, by name."""
        names = (each.name for each in dataclasses.fields(self) if each.init and each.name != "coordinates")
        return {name: getattr(self, name) for name in names}

    def select(self, columns: Tensor) -> Marginals:
        """The marginals of the columns with the indices ``columns``."""
        coordinates = tuple(self.coordinates[index] for index in columns.tolist())
        parts = {name: part[columns] if len(part) else part for name, part in self.tensors().items()}
        return Marginals(coordinates, **parts)

    def to_coordinate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The coordinates y of values ``x`` ``(*, d)``, and log dy/dx, each ``(*, d)``."""
        by_column = x.movedim(-1, 0)
        parts = [self._coordinates(by_column.index_select(0, columns.to(x.device)), columns) for columns in self._kinds]
        y, slope = (_joined([part[number] for part in parts], self._kind_order) for number in (0, 1))
        return y, slope

    def _coordinates(self, x: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """The same for values ``(columns, *)`` of columns of one kind, which for cells is a single column."""
        kind = self.coordinates[int(columns[0])]
        if kind == "cells":
            return self.histograms[int(columns[0])].to_logit(x)
        width, lower, upper, center = (
            _for_broadcast(part[columns], x) for part in (self.widths, self.lower, self.upper, self.centers)
        )
        if kind in ("linear", "asinh"):
            scaled = (x - center) / width
            if kind == "linear":
                return scaled, -width.log().expand_as(x)
            y = scaled.asinh()
            return y, math.log(2) - torch.logaddexp(y, -y) - width.log()  # -log cosh y, without squares that overflow
        if kind == "above":
            distance = (x - lower).log()
            return distance - width.log(), -distance
        if kind == "below":
            distance = (upper - x).log()
            return width.log() - distance, -distance
        left, right = (x - lower).log(), (upper - x).log()
        return left - right, (upper - lower).log() - left - right

    def from_coordinate(self, y: Tensor) -> Tensor:
        """The values x of coordinates ``y``, both ``(*, d)``."""
        columns = []
        for index, kind in enumerate(self.coordinates):
            value, width = y[..., index], float(self.widths[index])
            lower, upper, center = float(self.lower[index]), float(self.upper[index]), float(self.centers[index])
            if kind == "cells":
                columns.append(self.histograms[index].from_logit(value))
            elif kind == "linear":
                columns.append(center + width * value)
            elif kind == "asinh":
                columns.append(center + width * value.clamp(-FARTHEST, FARTHEST).sinh())
            elif kind == "above":
                columns.append(lower + width * value.exp())
            elif kind == "below":
                columns.append(upper - width * (-value).exp())
            else:
                columns.append(lower + (upper - lower) * torch.sigmoid(value))
        return torch.stack(columns, -1)

    def log_parts(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log density, log CDF and log survival function at coordinates ``y`` ``(*, d)``, each ``(*, d)``."""
        by_column = y.movedim(-1, 0)
        if by_column.numel() <= FEW:
            density, below, above = (part.movedim(0, -1) for part in self._padded.log_parts(by_column).unbind(0))
            return density, below, above
        parts = [
            mixture.log_parts(by_column.index_select(0, mixture.columns.to(y.device))) for mixture in self._mixtures
        ]
        density, below, above = (_joined([part[number] for part in parts], self._mixture_order) for number in range(3))
        return density, below, above

    def log_density(self, x: Tensor) -> Tensor:
        """log density of each column at values ``x`` ``(*, d)``, nats, ``(*, d)``."""
        return self.log_parts_of(x)[0]

    def log_parts_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log density, log CDF and log survival function of each column at values ``x`` ``(*, d)``, in one pass.

        The three cost as much as one of them, and have the shape of ``x`` each.
        """
        if not self.spikes:
            return self._log_parts_between(x)
        # The slab is evaluated between the cells alone, so that no gradient comes from beyond its bounds.
        inside = self.from_coordinate(self.locations[:, 0].to(x))
        columns = list(x.unbind(-1))
        for index, spikes in self.spikes.items():
            columns[index] = torch.where(spikes.contains(x[..., index]), inside[index], x[..., index])
        parts = [list(part.unbind(-1)) for part in self._log_parts_between(torch.stack(columns, -1))]
        for index, spikes in self.spikes.items():
            found = spikes.log_parts(x[..., index], (parts[0][index], parts[1][index], parts[2][index]))
            for part, value in zip(parts, found, strict=True):
                part[index] = value
        density, below, above = (torch.stack(part, -1) for part in parts)
        return density, below, above

    def _log_parts_between(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same without spikes."""
        y, slope = self.to_coordinate(x)
        density, below, above = self.log_parts(y)
        return density + slope, below, above

    def quantiles(self, u: Tensor) -> Tensor:
        """The values x with F(x) = Phi(u) of standard normal scores ``u`` ``(*, d)``."""
        tails = torch.special.log_ndtr(u), torch.special.log_ndtr(-u)
        slab = [list(tail.unbind(-1)) for tail in tails]
        for index, spikes in self.spikes.items():
            slab[0][index], slab[1][index] = spikes.slab_tails(tails[0][..., index], tails[1][..., index])
        y = self.quantile_coordinate(torch.stack(slab[0], -1), torch.stack(slab[1], -1))
        columns = list(self.from_coordinate(y).unbind(-1))
        for index, spikes in self.spikes.items():
            columns[index] = spikes.place(tails[0][..., index], tails[1][..., index], columns[index])
        return torch.stack(columns, -1)

    def quantile_coordinate(self, lower_tail: Tensor, upper_tail: Tensor, *, num_iterations: int = 100) -> Tensor:
        """Solves for the coordinates of given probabilities by Newton steps on the log, kept inside a shrinking bracket.

        A Newton step is taken where it is at most half as long as the step before, else the bracket is halved: between two
        components Newton steps alone may go to and fro for ever.

        Args:
            lower_tail: log distribution function of the mixtures ``(*, d)``.
            upper_tail: their log survival function ``(*, d)``.
            num_iterations: greatest number of steps; bisection alone would gain 30 digits in 100.
        """
        logits = (lower_tail - upper_tail)[..., None]
        quantiles = self.locations.to(logits) + self.scales.to(logits) * logits
        present = self.log_weights.to(logits) > -math.inf
        low = torch.where(present, quantiles, math.inf).amin(-1)
        high = torch.where(present, quantiles, -math.inf).amax(-1)
        y, length = 0.5 * (low + high), high - low
        is_lower, is_found = lower_tail < upper_tail, lower_tail.isnan()
        for _ in range(num_iterations):
            density, below, above = self.log_parts(y)
            error = torch.where(is_lower, below - lower_tail, upper_tail - above)
            low, high = torch.where(error < 0, y, low), torch.where(error > 0, y, high)
            slope = (density - torch.where(is_lower, below, above)).exp()
            proposal = y - error / slope
            is_short = 2 * (proposal - y).abs() <= length
            following = torch.where((proposal >= low) & (proposal <= high) & is_short, proposal, 0.5 * (low + high))
            length = (following - y).abs()
            y = torch.where(is_found, y, following)
            is_found |= length <= 1e-12 * (1 + y.abs())
            if bool(is_found.all()):
                break
        return y


def true_places(mask: Tensor) -> tuple[Tensor, ...] | None:
    """Indices of the true entries; None under vmap, which has no answer for all rows.

    Args:
        mask: boolean tensor of any shape.

    >>> true_places(torch.tensor([False, True]))
    (tensor([1]),)
    """
    try:
        return mask.nonzero(as_tuple=True)
    except RuntimeError:
        return None


def _for_broadcast(part: Tensor, values: Tensor) -> Tensor:
    """Parameters ``(m, ...)`` in the type of ``values`` ``(m, *)``, with dimensions of length 1 for the others of these."""
    return part.to(values).reshape(*part.shape, *[1] * (values.ndim - 1))


def _joined(parts: Sequence[Tensor], order: Tensor) -> Tensor:
    """Values ``(m, *)`` of several groups of columns as one tensor ``(*, d)``, with the columns in ``order``."""
    return torch.cat(list(parts)).index_select(0, order.to(parts[0].device)).movedim(0, -1)


def _log_sums(z: Tensor, weights: Tensor, scales: Tensor, dim: int) -> Tensor:
    """log density, log CDF and log survival function as sums of logs over the components along ``dim``, stacked."""
    lower, upper = functional.logsigmoid(z), functional.logsigmoid(-z)
    logs = (weights + lower + upper - scales.log(), weights + lower, weights + upper)
    return torch.stack([log.logsumexp(dim) for log in logs])
