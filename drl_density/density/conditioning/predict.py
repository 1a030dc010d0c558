r"""One column given the others: its normalised density by quadrature, so mean, quantiles, class probabilities.

The slice :math:`p(y \mid x) \propto \exp F_0(T(y, x))\,\lvert u_y'(y)\rvert` has one dimension, so its normaliser is an
integral over a grid in model space, refined until halving the grid changes nothing. Labels in x stand for their whole
cells: numerator and normaliser are averaged over the same places in them. Where other columns are missing as well, the
conditional is averaged over draws of them given what is observed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from drl_density.datasets import Column
from drl_density.density.conditioning.cells import cell_positions, labels_given
from drl_density.density.conditioning.condition import column_index, refuse_outside, sample_rows, to_data
from drl_density.errors import DataError, NumericalError
from drl_density.inverse_problems import ConditionalSettings
from drl_density.transforms import DataTransform
from drl_density.weights import normal_quantile

if TYPE_CHECKING:
    from drl_density.density.fitted import Density

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_POINTS, MOST_POINTS, NUM_PLACES, NODES_PER_CELL = 257, 4097, 16, 12
DEPTH = 30.0  # nats below its top at which a slice ends: what lies beyond has a share of about e^-30
TOLERANCE = 1e-3
MOST_ROWS = 65_536


@dataclass(frozen=True)
class Prediction:
    """The density of one column given the others, row by row.

    Attributes:
        column: what was predicted.
        mean: ``(row,)``; NaN for text labels.
        quantiles: ``(row, quantile)``, in the column's unit and on its grid; NaN for labels.
        levels: of the quantiles.
        values: the labels' codes ``(label,)`` where the column holds labels, else None.
        probabilities: of each label ``(row, label)``, or None.
        log_density: of the value given in the row (of a label or whole number: log probability), nats; NaN where none is.
        standard_error: of ``log_density``: spread over places in cells of given labels, or over draws of missing cells.
        quadrature_error: change of the log normaliser when the grid is halved.
    """

    column: Column
    mean: Tensor
    quantiles: Tensor
    levels: tuple[float, ...]
    values: Tensor | None
    probabilities: Tensor | None
    log_density: Tensor
    standard_error: Tensor
    quadrature_error: Tensor

    def interval(self, probability: float = 0.95) -> tuple[Tensor, Tensor]:
        """Ends of the interval of ``log_density``, nats: normal by its standard error, and wider by the quadrature error."""
        half_width = normal_quantile(probability) * self.standard_error + self.quadrature_error
        return self.log_density - half_width, self.log_density + half_width


def predict(
    density: Density,
    rows: Tensor,
    column: int | str,
    *,
    quantiles: Sequence[float] = QUANTILES,
    seed: int = 0,
    settings: ConditionalSettings | None = None,
) -> Prediction:
    """See :meth:`drl_density.density.Density.predict`."""
    place = column_index(density, column)
    rows = torch.as_tensor(rows, dtype=torch.float64, device="cpu")
    count = torch.Size(density.event_shape).numel()
    if rows.ndim < 1 or len(rows) == 0 or rows[0].numel() != count or count < 2:
        raise DataError(f"expected rows of shape {tuple(density.event_shape)}, got {tuple(rows.shape)}")
    rows = rows.reshape(len(rows), count)
    if bool(rows.isinf().any()):
        raise DataError(
            f"row {int(rows.isinf().any(1).nonzero()[0])} holds an infinite value; mark what is missing with NaN"
        )
    if not all(0 < level < 1 for level in quantiles):
        raise DataError(f"quantiles must lie between 0 and 1, got {tuple(quantiles)}")
    hidden = rows.isnan()
    hidden[:, place] = True
    if bool(hidden.all(1).any()):
        row = int(hidden.all(1).nonzero()[0])
        raise DataError(f"row {row}: nothing is given beside {density.columns[place].name!r}; see density.marginal")
    generator = torch.Generator().manual_seed(seed)
    has_others = hidden.sum(1) > 1
    parts: list[tuple[Tensor, Prediction]] = []
    for chosen, is_drawn in ((~has_others, False), (has_others, True)):
        index = chosen.nonzero().flatten()
        if not len(index):
            continue
        make = _drawn_contexts if is_drawn else _given_contexts
        contexts = make(density, rows[index], hidden[index], settings or ConditionalSettings(), generator)
        share = max(1, MOST_ROWS // (NUM_POINTS * contexts.places.shape[1]))
        for some in torch.arange(len(index)).split(share):
            job = _Slices(density, place, contexts.take(some), tuple(quantiles))
            parts.append((index[some], job.predict(rows[index[some], place])))
    order = torch.cat([index for index, _ in parts]).argsort()
    predictions = [prediction for _, prediction in parts]
    joined = {
        name: torch.cat([getattr(p, name) for p in predictions])[order]
        for name in ("mean", "quantiles", "log_density", "standard_error", "quadrature_error")
    }
    probabilities = None
    if predictions[0].probabilities is not None:
        probabilities = torch.cat([p.probabilities for p in predictions])[order]
    return dataclasses.replace(predictions[0], **joined, probabilities=probabilities)


@dataclass(frozen=True)
class _Contexts:
    """Complete rows ``(n, k, d)`` in data units, their log weights ``(n, k)``, and whether they are posterior draws."""

    places: Tensor
    log_weights: Tensor
    are_draws: bool
    effective: Tensor

    def take(self, rows: Tensor) -> _Contexts:
        return _Contexts(self.places[rows], self.log_weights[rows], self.are_draws, self.effective[rows])


def _given_contexts(
    density: Density, rows: Tensor, hidden: Tensor, _: ConditionalSettings, generator: torch.Generator
) -> _Contexts:
    middle = density.pool.double().reshape(len(density.pool), -1).median(0).values
    filled = torch.where(hidden, middle, rows)
    refuse_outside(density, density.transform(filled), rows, hidden)
    number = NUM_PLACES if bool(labels_given(density, hidden).any()) else 1
    places, in_cell = cell_positions(density, filled, hidden, number, generator)
    weights = (density.transform.column_log_jacobian(places) * in_cell[:, None]).sum(-1)
    return _Contexts(places, weights, False, torch.full((len(rows),), float(number), dtype=torch.float64))


def _drawn_contexts(
    density: Density, rows: Tensor, hidden: Tensor, settings: ConditionalSettings, generator: torch.Generator
) -> _Contexts:
    found = sample_rows(density, rows, hidden, num_draws=64, settings=settings, generator=generator)
    particles = found.log_weights[0].numel()
    effective = (found.least_ess * particles).minimum(torch.tensor(64.0, dtype=torch.float64))
    return _Contexts(to_data(density, found.draws), torch.zeros(found.draws.shape[:2]).double(), True, effective)


@dataclass(frozen=True)
class _Slices:
    """Slices of one column through contexts."""

    density: Density
    place: int
    contexts: _Contexts
    levels: tuple[float, ...]

    def predict(self, y: Tensor) -> Prediction:
        column = self.density.columns[self.place]
        own = self.density.transform.single_column(self.place)
        low, high = self._ends()
        points, log_p, error = self._refined(low, high)
        width = (points[:, -1] - points[:, 0]) / (points.shape[1] - 1)
        log_mass = log_p.logsumexp(2) + width.log()[:, None]  # (n, k): each context's integral over u
        shares = self._shares(log_mass)
        pdf = ((log_p - log_mass[..., None]).exp() * shares[..., None]).sum(1)  # in u
        grid_y = own.inv(points.reshape(-1, 1)).reshape(points.shape)
        mass = pdf * width[:, None]
        mean, quantiles = (mass * grid_y).sum(1) / mass.sum(1), self._quantiles(points, mass, own)
        values = probabilities = None
        known = ~y.isnan()
        log_density, spread = (torch.full((len(y),), math.nan, dtype=torch.float64) for _ in range(2))
        if column.is_label:
            values = self._codes(column)
            by_label = (
                torch.stack([self._log_cell(own, v.expand(len(y)), column.width) for v in values], 2)
                - log_mass[..., None]
            )
            probabilities = (by_label.exp() * shares[..., None]).sum(1)
            probabilities = probabilities / probabilities.sum(1, keepdim=True)
            mean = mean * math.nan if column.categories is not None else probabilities @ values
            quantiles = quantiles * math.nan
        if bool(known.any()):
            is_inside = self._is_inside(y)
            at = torch.where(known & is_inside, y, grid_y[:, 0])
            value = self._log_cell(own, at, column.width) if column.width else self._log_point(own, at)
            value, spread = self._average(value - log_mass, shares)
            if column.width and not column.is_discrete:
                value = value - math.log(column.width)
            if probabilities is not None:
                gap, index = (at[:, None] - values).abs().min(1)
                wrong = known & (gap > 0.5 * column.width)
                if bool(wrong.any()):
                    raise DataError(
                        f"column {column.name!r} holds {float(y[wrong][0]):g}; the fit knows {values.tolist()}"
                    )
                value = probabilities.log().gather(1, index[:, None]).squeeze(1)
            value = torch.where(is_inside, value, -math.inf)
            log_density, spread = value.masked_fill(~known, math.nan), spread.masked_fill(~known, math.nan)
        if column.width and not column.is_label:
            quantiles = column.on_grid(quantiles)
        return Prediction(column, mean, quantiles, self.levels, values, probabilities, log_density, spread, error)

    def _is_inside(self, y: Tensor) -> Tensor:
        return self.density.transform.bounds.select(self.place).contains(y[:, None])

    def _codes(self, column: Column) -> Tensor:
        if column.categories is not None:
            return torch.arange(len(column.categories), dtype=torch.float64)
        # The more frequent of the two values is an end that rows pile up at; the draws say on which side the other lies.
        base = column.piles[0]
        middle = float(self.density.pool.double().reshape(len(self.density.pool), -1)[:, self.place].mean())
        if len(column.piles) == 1 and middle < base:
            base -= column.width
        return torch.tensor([base, base + column.width], dtype=torch.float64)

    def _log_slice(self, points: Tensor) -> Tensor:
        """F_0 plus the contexts' log weights at model-space values ``(n, g)`` of the column: ``(n, k, g)``."""
        places = self.contexts.places
        u = self.density.transform(places)
        (n, k, d), g = u.shape, points.shape[1]
        full = u[:, :, None].expand(n, k, g, d).clone()
        full[..., self.place] = points[:, None]
        flat = full.reshape(-1, d)
        with torch.no_grad():
            values = torch.cat([self.density.model.log_density(part, 0).double() for part in flat.split(MOST_ROWS)])
        return values.reshape(n, k, g) + self.contexts.log_weights[..., None]

    def _ends(self) -> tuple[Tensor, Tensor]:
        """Model-space ends of each row's slice, outside which every context lies ``DEPTH`` below its top."""
        reach = 8.0
        for _ in range(4):
            grid = torch.linspace(-reach, reach, NUM_POINTS, dtype=torch.float64)
            values = self._log_slice(grid.expand(len(self.contexts.places), -1))
            high_enough = (values > values.amax(2, keepdim=True) - DEPTH).any(1)
            if not bool(high_enough[:, [0, -1]].any()):
                step = float(grid[1] - grid[0])
                first = high_enough.double().argmax(1)
                last = NUM_POINTS - 1 - high_enough.flip(1).double().argmax(1)
                return grid[first] - step, grid[last] + step
            reach *= 2
        raise NumericalError(
            f"the slice of column {self.density.columns[self.place].name!r} does not fall off within {reach:g} standard "
            "deviations of its marginal: the given values lie far outside the data"
        )

    def _refined(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(points ``(n, g)``, log values ``(n, k, g)``, change of the log normaliser on halving the grid ``(n,)``)."""
        count = NUM_POINTS
        while True:
            share = torch.linspace(0, 1, count, dtype=torch.float64)
            points = low[:, None] + (high - low)[:, None] * share
            values = self._log_slice(points)
            fine, coarse = values.logsumexp((1, 2)), values[..., ::2].logsumexp((1, 2)) + math.log(2)
            error = (fine - coarse).abs()
            if bool((error < TOLERANCE).all()) or count >= MOST_POINTS:
                return points, values, error
            count = 2 * count - 1

    def _shares(self, log_mass: Tensor) -> Tensor:
        """Share of each context in the mixture ``(n, k)``."""
        if self.contexts.are_draws:
            return torch.full_like(log_mass, 1 / log_mass.shape[1])
        return log_mass.softmax(1)

    def _average(self, log_value: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """(log of the mixture's value, its delta-method standard error) from log values ``(n, k)`` by context."""
        total = (log_value + shares.log()).logsumexp(1)
        count = log_value.shape[1]
        if count == 1:
            return total, torch.zeros_like(total)
        relative = count * shares * ((log_value - total[:, None]).exp() - 1)
        return total, relative.std(1) / self.contexts.effective.sqrt()

    def _quantiles(self, points: Tensor, mass: Tensor, own: DataTransform) -> Tensor:
        half = 0.5 * mass
        cumulative = (mass.cumsum(1) - half) / mass.sum(1, keepdim=True)
        found = np.stack(
            [np.interp(self.levels, c, p) for c, p in zip(cumulative.numpy(), points.numpy(), strict=True)]
        )
        return own.inv(torch.as_tensor(found).reshape(-1, 1)).reshape(found.shape)

    def _log_cell(self, own: DataTransform, value: Tensor, width: float) -> Tensor:
        """log integral over the cell around each row's value, ``(n, k)``, by Gauss-Legendre nodes in model space."""
        nodes, weights = (torch.as_tensor(part) for part in np.polynomial.legendre.leggauss(NODES_PER_CELL))
        ends = torch.stack([value - width / 2, value + width / 2], 1)
        lower, upper = self.density.transform.bounds.select(self.place)
        margin = 1e-9 * width  # a cell ends where the column does
        ends = ends.maximum(lower + margin).minimum(upper - margin)
        low, high = own(ends.reshape(-1, 1)).reshape(ends.shape).unbind(1)
        points = 0.5 * (low + high)[:, None] + 0.5 * (high - low)[:, None] * nodes
        return (self._log_slice(points) + weights.log()).logsumexp(2) + (0.5 * (high - low)).log()[:, None]

    def _log_point(self, own: DataTransform, value: Tensor) -> Tensor:
        """log of the slice at each row's value in data units, ``(n, k)``."""
        u = own(value[:, None])
        slope = own.log_abs_det_jacobian(value[:, None], u)
        return self._log_slice(u).squeeze(2) + slope[:, None]
