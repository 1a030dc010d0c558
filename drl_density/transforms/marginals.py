"""Marginal densities of all columns at once: mixtures of logistic components in a coordinate of each column."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.descent import DescentRule, descend
from drl_density.records.brief import brief
from drl_density.transforms.histogram import Histogram

COORDINATES = ("linear", "asinh", "above", "below", "between", "cells")


@dataclass(frozen=True, eq=False)
class Marginals:
    r"""Independent column densities: mixtures of logistic components in the coordinate y of each column.

    The coordinates are linear, asinh (whose exponential tails in y are Pareto tails in x), log distance above a lower
    bound, log distance below an upper bound, or logit between two. Cumulative probabilities are kept as logs. A column with
    a closed support has the coordinate "cells", the logit of its :class:`Histogram`, and one standard component.

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

    __repr__ = brief

    def histogram(self, index: int) -> Histogram:
        """The histogram of column ``index``, whose coordinate is "cells"."""
        is_value = self.values[index] < math.inf
        return Histogram(self.values[index][is_value], float(self.widths[index]), self.log_shares[index][is_value])

    def tensors(self) -> dict[str, Tensor]:
        """All fields but the coordinates, by name."""
        fields = (field.name for field in dataclasses.fields(self) if field.name != "coordinates")
        return {name: getattr(self, name) for name in fields}

    def select(self, columns: slice) -> Marginals:
        """The marginals of the columns in the slice ``columns``."""
        return Marginals(self.coordinates[columns], **{name: part[columns] for name, part in self.tensors().items()})

    def to_coordinate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The coordinates y of values ``x`` ``(*, d)``, and log dy/dx, each ``(*, d)``."""
        parts = [self._column(x[..., index], index) for index in range(x.shape[-1])]
        return torch.stack([y for y, _ in parts], -1), torch.stack([slope for _, slope in parts], -1)

    def _column(self, x: Tensor, index: int) -> tuple[Tensor, Tensor]:
        kind, width = self.coordinates[index], float(self.widths[index])
        if kind == "cells":
            return self.histogram(index).to_logit(x)
        lower, upper, center = float(self.lower[index]), float(self.upper[index]), float(self.centers[index])
        scaled = (x - center) / width
        if kind == "linear":
            return scaled, torch.full_like(x, -math.log(width))
        if kind == "asinh":
            return scaled.asinh(), -0.5 * torch.log1p(scaled.square()) - math.log(width)
        if kind == "above":
            distance = (x - lower).log()
            return distance - math.log(width), -distance
        if kind == "below":
            distance = (upper - x).log()
            return math.log(width) - distance, -distance
        left, right = (x - lower).log(), (upper - x).log()
        return left - right, math.log(upper - lower) - left - right

    def from_coordinate(self, y: Tensor) -> Tensor:
        """The values x of coordinates ``y``, both ``(*, d)``."""
        columns = []
        for index, kind in enumerate(self.coordinates):
            value, width = y[..., index], float(self.widths[index])
            lower, upper, center = float(self.lower[index]), float(self.upper[index]), float(self.centers[index])
            if kind == "cells":
                columns.append(self.histogram(index).from_logit(value))
            elif kind == "linear":
                columns.append(center + width * value)
            elif kind == "asinh":
                columns.append(center + width * value.sinh())
            elif kind == "above":
                columns.append(lower + width * value.exp())
            elif kind == "below":
                columns.append(upper - width * (-value).exp())
            else:
                columns.append(lower + (upper - lower) * torch.sigmoid(value))
        return torch.stack(columns, -1)

    def log_parts(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log density, log CDF and log survival function at coordinates ``y`` ``(*, d)``, each ``(*, d)``."""
        scales, weights = self.scales.to(y), self.log_weights.to(y)
        z = (y[..., None] - self.locations.to(y)) / scales
        shares, (p, q) = weights.exp(), (torch.sigmoid(z), torch.sigmoid(-z))
        sums = torch.stack([(shares * p * q / scales).sum(-1), (shares * p).sum(-1), (shares * q).sum(-1)])
        # Sums of probabilities take half the time of sums of logs, and lose digits only where they come near underflow.
        finite = torch.finfo(sums.dtype)
        is_lost = ~(sums > finite.tiny / finite.eps).all(0)
        if not bool(is_lost.any()):
            return sums[0].log(), sums[1].log(), sums[2].log()
        density, below, above = torch.where(is_lost, 1.0, sums).log()
        far = is_lost.nonzero(as_tuple=True)
        columns = far[-1]
        z, weights, scales = z[far], weights[columns], scales[columns]
        lower, upper = functional.logsigmoid(z), functional.logsigmoid(-z)
        logs = (weights + lower + upper - scales.log(), weights + lower, weights + upper)
        parts = (part.index_put(far, log.logsumexp(-1)) for part, log in zip((density, below, above), logs, strict=True))
        return next(parts), next(parts), next(parts)

    def log_density(self, x: Tensor) -> Tensor:
        """log density of each column at values ``x`` ``(*, d)``, nats, ``(*, d)``."""
        y, slope = self.to_coordinate(x)
        return self.log_parts(y)[0] + slope

    def quantile_coordinate(self, u: Tensor, *, num_iterations: int = 100) -> Tensor:
        """Solves CDF(y) = Phi(u) by Newton steps on the log, kept inside a shrinking bracket.

        Args:
            u: standard normal scores ``(*, d)``.
            num_iterations: greatest number of steps; bisection alone would gain 30 digits in 100.
        """
        lower_tail = torch.special.log_ndtr(u)
        upper_tail = torch.special.log_ndtr(-u)
        logits = (lower_tail - upper_tail)[..., None]
        quantiles = self.locations.to(u) + self.scales.to(u) * logits
        present = self.log_weights.to(u) > -math.inf
        low = torch.where(present, quantiles, math.inf).amin(-1)
        high = torch.where(present, quantiles, -math.inf).amax(-1)
        y = 0.5 * (low + high)
        is_lower = u < 0
        for _ in range(num_iterations):
            density, below, above = self.log_parts(y)
            error = torch.where(is_lower, below - lower_tail, upper_tail - above)
            low, high = torch.where(error < 0, y, low), torch.where(error > 0, y, high)
            slope = (density - torch.where(is_lower, below, above)).exp()
            proposal = y - error / slope
            inside = (proposal >= low) & (proposal <= high)
            following = torch.where(inside, proposal, 0.5 * (low + high))
            moved = (following - y).abs()
            y = following
            if bool((moved <= 1e-12 * (1 + y.abs())).all()):
                break
        return y


@dataclass(frozen=True)
class MixtureFit:
    """Mixture parameters in the coordinate of each column.

    Attributes:
        log_weights: log weights of the components, ``(d, components)``.
        locations: centres of the components, ``(d, components)``.
        scales: scales of the components, ``(d, components)``.
    """

    log_weights: Tensor
    locations: Tensor
    scales: Tensor

    def log_density(self, y: Tensor) -> Tensor:
        """log density of each column at coordinates ``y`` ``(rows, d)``, ``(rows, d)``."""
        return _mixture_log_density(y, self.log_weights, self.locations, self.scales)


def fit_mixture(
    y: Tensor, num_components: int, least_scale: Tensor, *, weights: Tensor | None = None, num_steps: int = 150
) -> MixtureFit:
    """Fits a mixture of logistic components to every column by maximum likelihood.

    Args:
        y: coordinates ``(rows, d)``, whose quantiles are the first locations.
        num_components: number of components of every column.
        least_scale: lower bound of the scales, ``(d,)``, which prevents spikes on rounded values.
        weights: relative weight of each row, ``(rows,)``; all equal when not given.
        num_steps: number of Adam steps, under a rate that falls from 0.05 as a half cosine.
    """
    levels = (torch.arange(num_components, dtype=y.dtype) + 0.5) / num_components
    # torch.quantile takes at most 2^24 elements; the first 16,384 rows place the start well enough.
    locations = torch.quantile(y[:16384], levels, dim=0).T.contiguous()
    spread = y.std(0)[:, None] / num_components**0.7 * 0.6
    raw_scales = (torch.maximum(spread, 1.5 * least_scale[:, None]) - least_scale[:, None]).log()
    raw_scales = raw_scales.expand_as(locations).clone()
    logits = torch.zeros_like(locations)
    shares = torch.full((len(y), 1), 1 / len(y), dtype=y.dtype) if weights is None else weights[:, None] / weights.sum()
    unit = y.std(0)[:, None]
    parameters = [p.requires_grad_(True) for p in (locations, raw_scales, logits)]
    # Adam's steps do not depend on the units of a gradient, those of its epsilon do: this makes them the column's own.
    locations.register_hook(lambda gradient: gradient * unit)

    def loss_of() -> Tensor:
        scales = least_scale[:, None] + raw_scales.exp()
        return -(shares * _mixture_log_density(y, logits.log_softmax(-1), locations, scales)).sum()

    # Columns do not touch each other: one whose coordinate overflows must not stop the others, and loses on its score.
    descend(parameters, loss_of, DescentRule(num_steps, 0.05, is_annealed=True, must_be_finite=False))
    scales = least_scale[:, None] + raw_scales.exp()
    return MixtureFit(*(t.detach() for t in (logits.log_softmax(-1), locations, scales)))


def _mixture_log_density(y: Tensor, log_weights: Tensor, locations: Tensor, scales: Tensor) -> Tensor:
    z = (y[..., None] - locations) / scales
    return (log_weights + functional.logsigmoid(z) + functional.logsigmoid(-z) - scales.log()).logsumexp(-1)
