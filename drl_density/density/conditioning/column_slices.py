"""Slices of one column through given or drawn values of the others, by quadrature in model space.

The grid is refined until halving it leaves the log normaliser unchanged, and ends where a slice has fallen off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from drl_density.density.conditioning.prediction import Prediction
from drl_density.density.fitted import FittedModel
from drl_density.errors import DataError, NumericalError
from drl_density.transforms import DataTransform

NUM_POINTS, MOST_POINTS = 257, 4097
"""Points of the first and of the finest grid, 2^8 + 1 and 2^12 + 1, so that halving reuses every other point."""
NODES_PER_CELL = 12
"""Gauss-Legendre nodes over one rounding cell, exact for polynomials of degree 23."""
DEPTH = 30.0
"""Nats below its top at which a slice ends; the mass beyond has a share of about exp(-30)."""
FIRST_REACH, MOST_DOUBLINGS = 8.0, 4
"""Model-space standard deviations searched first, and how often that is doubled before a slice counts as unbounded."""
TOLERANCE = 1e-3
"""Change of the log normaliser, nats, at which refinement stops; far below any error of the model."""
INSET = 1e-9
"""Share of its width by which the integral over a cell stops short of the cell's edges."""
MOST_ROWS = 65_536
"""Points scored in one pass, which bounds the memory of a call."""


@dataclass(frozen=True)
class Contexts:
    """Values of the other columns at which slices are taken.

    Attributes:
        states: complete rows ``(n, k, d)`` in model space, float64, k contexts for each row.
        log_weights: log weight of each context ``(n, k)`` before its slice is integrated.
        are_draws: whether contexts are draws given the row, which count equally, or points of a cell.
        effective: effective number of independent contexts of each row ``(n,)``.
    """

    states: Tensor
    log_weights: Tensor
    are_draws: bool
    effective: Tensor

    def take(self, rows: Tensor) -> Contexts:
        """The contexts of some rows."""
        return Contexts(self.states[rows], self.log_weights[rows], self.are_draws, self.effective[rows])


@dataclass(frozen=True)
class ColumnSlices:
    """Densities of one column, each the mixture of its slices through the contexts of a row.

    Attributes:
        density: the fit that is sliced.
        place: index of the column.
        contexts: values of the other columns.
        levels: probability levels of the quantiles.
    """

    density: FittedModel
    place: int
    contexts: Contexts
    levels: tuple[float, ...]

    def quantities(self, y: Tensor) -> Prediction:
        """Mean, quantiles and label probabilities of every slice, and the log density at each row's own value.

        Args:
            y: values of the column in data units ``(n,)``, NaN where they are missing.

        Raises:
            DataError: values that are none of the labels.
            NumericalError: a slice that does not fall off.
        """
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
        if column.is_closed:
            values = torch.tensor(column.values, dtype=torch.float64)
            cells = [self._log_cell(own, value.expand(len(y)), column.width) for value in values]
            by_label = torch.stack(cells, 2) - log_mass[..., None]
            probabilities = (by_label.exp() * shares[..., None]).sum(1)
            probabilities = probabilities / probabilities.sum(1, keepdim=True)
            mean = mean * math.nan if column.categories is not None else probabilities @ values
            quantiles = quantiles * math.nan if column.is_label else self._discrete_quantiles(values, probabilities)
        else:
            lower, upper = self.density.bounds.select(self.place)
            quantiles = column.on_support(quantiles, inside=(float(lower), float(upper)))
        inside = torch.where(y.isnan() | ~self._is_inside(y), grid_y[:, 0], y)
        value, spread = self._value(own, inside, log_mass, shares)
        if values is not None and probabilities is not None:
            value = self._value_of_cell(y, values, probabilities)
        value = torch.where(self._is_inside(y), value, -math.inf).masked_fill(y.isnan(), math.nan)
        spread = spread.masked_fill(y.isnan(), math.nan)
        return Prediction(column, mean, quantiles, self.levels, values, probabilities, value, spread, error)

    def _value(self, own: DataTransform, y: Tensor, log_mass: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """(log density at values ``(n,)`` within bounds, its standard error); of whole numbers the log probability."""
        column = self.density.columns[self.place]
        y = column.on_support(y) if column.is_closed else y
        value = self._log_cell(own, y, column.width) if column.width else self._log_point(own, y)
        log_density, spread = self._average(value - log_mass, shares)
        if column.width and not column.is_discrete:
            log_density = log_density - math.log(column.width)
        return log_density, spread

    def _value_of_cell(self, y: Tensor, values: Tensor, probabilities: Tensor) -> Tensor:
        """Log probability of each row's own value of a closed support, -inf for any other number; NaN where missing."""
        column = self.density.columns[self.place]
        gap, index = torch.where(y.isnan(), values[0], y)[:, None].sub(values).abs().min(1)
        wrong = gap > 0.5 * column.width
        if bool(wrong.any()) and column.is_label:
            raise DataError(f"column {column.name!r} holds {float(y[wrong][0]):g}; the fit has {values.tolist()}")
        return probabilities.log().gather(1, index[:, None]).squeeze(1).masked_fill(wrong, -math.inf)

    def _discrete_quantiles(self, values: Tensor, probabilities: Tensor) -> Tensor:
        """The least value whose distribution function reaches each level, ``(n, quantile)``."""
        levels = torch.tensor(self.levels, dtype=torch.float64)
        reached = (probabilities.cumsum(1)[:, :, None] < levels).sum(1)
        return values[reached.minimum(torch.tensor(len(values) - 1))]

    def _is_inside(self, y: Tensor) -> Tensor:
        return self.density.bounds.select(self.place).contains(y[:, None])

    def _log_slice(self, points: Tensor) -> Tensor:
        """F_0 plus the contexts' log weights at model-space values ``(n, g)`` of the column: ``(n, k, g)``."""
        states = self.contexts.states
        (n, k, d), g = states.shape, points.shape[1]
        full = states[:, :, None].expand(n, k, g, d).clone()
        full[..., self.place] = points[:, None]
        flat = full.reshape(-1, d)
        with torch.no_grad():
            values = torch.cat([self.density.model.log_density(part, 0).double() for part in flat.split(MOST_ROWS)])
        return values.reshape(n, k, g) + self.contexts.log_weights[..., None]

    def _ends(self) -> tuple[Tensor, Tensor]:
        """Model-space ends of each row's slice, outside which every context lies ``DEPTH`` below its top."""
        reach = FIRST_REACH
        for _ in range(MOST_DOUBLINGS):
            grid = torch.linspace(-reach, reach, NUM_POINTS, dtype=torch.float64)
            values = self._log_slice(grid.expand(len(self.contexts.states), -1))
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
        lower, upper = self.density.bounds.select(self.place)
        margin = INSET * width  # a cell ends where the column does, and its upper edge may be part of a gap
        ends = torch.stack([value - width / 2 + margin, value + width / 2 - margin], 1)
        ends = ends.maximum(lower + margin).minimum(upper - margin)
        low, high = own(ends.reshape(-1, 1)).reshape(ends.shape).unbind(1)
        points = 0.5 * (low + high)[:, None] + 0.5 * (high - low)[:, None] * nodes
        return (self._log_slice(points) + weights.log()).logsumexp(2) + (0.5 * (high - low)).log()[:, None]

    def _log_point(self, own: DataTransform, value: Tensor) -> Tensor:
        """log of the slice at each row's value in data units, ``(n, k)``."""
        u, slope = own.with_log_jacobian(value[:, None])
        return self._log_slice(u).squeeze(2) + slope[:, None]
