"""A chain of curved regressions, for targets that bend, or whose scale and correlations change along one coordinate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Shape = Literal["bent", "driven"]
"""What places depend on: "bent" on squares of the coordinates before, "driven" on coordinates before with slopes that change
along the driver."""
QUANTILES = (0.1, 0.5, 0.9)
"""Quantiles of the driver at which scales and slopes may turn."""
TURN = 0.5
"""Width of a turn in standard deviations of the driver."""
RIDGE = 1e-9
"""Ridge of the normal equations as a share of each feature's mean square, for features that are nearly collinear."""
NUM_ROUNDS, NUM_SCORING_STEPS = 4, 8
"""Alternations between places and scales, and scoring steps of the scales in each."""


@dataclass(frozen=True, eq=False)
class CurvedRegression:
    r"""Regression of every coordinate on those before it in some order, the first of which is the driver z.

    With :math:`y = (x - m) / s` in the order chosen,
    :math:`y_j = a_j^T \phi(y_1 .. y_{j-1}) + \exp(c_j^T \psi(z) / 2)\, v_j` with v ~ N(0, I). The features of a scale
    are z and hinges in it. Those of a place are the coordinates before and their squares, or smooth steps in z, the
    coordinates before, and their products with the steps.

    Attributes:
        order: coordinates in the order of the regressions, the driver first.
        shape: features of the places.
        shift: means m of all coordinates, ``(d,)``.
        unit: standard deviations s of all coordinates, ``(d,)``.
        turns: places in z at which scales and slopes may turn.
        places: coefficients a of every coordinate but the driver.
        scales: coefficients c of every coordinate but the driver, ``(d - 1, 2 + turns)``.
        spread: factor on every residual's standard deviation.
    """

    order: tuple[int, ...]
    shape: Shape
    shift: Tensor
    unit: Tensor
    turns: Tensor
    places: tuple[Tensor, ...]
    scales: Tensor
    spread: float = 1.0

    @classmethod
    def fit(cls, rows: Tensor, order: tuple[int, ...], shape: Shape) -> CurvedRegression:
        """Fit by maximum likelihood to rows ``(n, d)``, float64, of at least two coordinates that vary."""
        shift, unit = rows.mean(0), rows.std(0)
        y = ((rows - shift) / unit)[:, list(order)]
        turns = y[:, 0].quantile(torch.tensor(QUANTILES, dtype=y.dtype))
        hinges = _hinges(y[:, 0], turns)
        places, scales = [], []
        for index in range(1, y.shape[1]):
            features = _features(y[:, :index], turns, shape)
            kept = _worthwhile(features, y[:, index], shape)
            place, scale = _fit_one(features[:, kept], hinges, y[:, index])
            places.append(torch.zeros_like(features[0]).index_copy(0, kept, place))
            scales.append(scale)
        return cls(order, shape, shift, unit, turns, tuple(places), torch.stack(scales))

    @property
    def driver(self) -> int:
        """Index of the driver."""
        return self.order[0]

    @property
    def center(self) -> tuple[float, float]:
        """Mean and standard deviation of the driver."""
        return float(self.shift[self.driver]), float(self.unit[self.driver])

    @property
    def num_features(self) -> int:
        """Number d of coordinates."""
        return len(self.order)

    def to_unit(self, x: Tensor) -> Tensor:
        """Coordinates ``(n, d)``, the driver first, that are standard normal where the regressions hold."""
        y = ((x - self.shift) / self.unit)[:, list(self.order)]
        half = self._half_log_variances(y[:, 0])
        places = [_features(y[:, : index + 1], self.turns, self.shape) @ a for index, a in enumerate(self.places)]
        return torch.cat([y[:, :1], (y[:, 1:] - torch.stack(places, 1)) * (-half).exp() / self.spread], 1)

    def from_unit(self, unit: Tensor) -> Tensor:
        """The points ``(n, d)`` with these unit coordinates; the inverse of :meth:`to_unit`."""
        residuals = self.spread * self._half_log_variances(unit[:, 0]).exp() * unit[:, 1:]
        columns = [unit[:, 0]]
        for index, a in enumerate(self.places):
            place = _features(torch.stack(columns, 1), self.turns, self.shape) @ a
            columns.append(place + residuals[:, index])
        back = sorted(range(len(self.order)), key=lambda index: self.order[index])
        return self.shift + self.unit * torch.stack([columns[index] for index in back], 1)

    def log_volume(self, unit: Tensor) -> Tensor:
        """Logarithm of the Jacobian determinant of :meth:`from_unit`, ``(n,)``."""
        fixed = self.unit.log().sum() + len(self.places) * torch.tensor(self.spread).log()
        return self._half_log_variances(unit[:, 0]).sum(1) + fixed

    def pull_back(self, unit: Tensor, gradient: Tensor) -> Tensor:
        """Gradient of f(x) + log volume in unit coordinates ``(n, d)``, from the gradient of f in x."""
        with torch.enable_grad():
            point = unit.detach().requires_grad_()
            total = (self.from_unit(point) * gradient.detach()).sum() + self.log_volume(point).sum()
            (found,) = torch.autograd.grad(total, point)
        return found

    def to(self, like: Tensor) -> CurvedRegression:
        """The same regression in the dtype and on the device of ``like``."""
        return dataclasses.replace(
            self,
            shift=self.shift.to(like),
            unit=self.unit.to(like),
            turns=self.turns.to(like),
            places=tuple(values.to(like) for values in self.places),
            scales=self.scales.to(like),
        )

    def in_units(self, center: Tensor, unit: Tensor) -> CurvedRegression:
        """The regression of ``center + unit * x``, where this one is the regression of x."""
        return dataclasses.replace(self, shift=center + unit * self.shift, unit=unit * self.unit)

    def widened(self, widening: float) -> CurvedRegression:
        """The same regression with every residual's standard deviation multiplied by ``widening``."""
        return dataclasses.replace(self, spread=widening * self.spread)

    def _half_log_variances(self, z: Tensor) -> Tensor:
        return 0.5 * _hinges(z, self.turns) @ self.scales.T


def curved_orders(rows: Tensor, drivers: Sequence[int]) -> tuple[tuple[tuple[int, ...], Shape], ...]:
    """Orders and shapes worth a try for rows ``(n, d)``.

    The coordinate that the others determine best, by their values and squares, comes last, and so on. That order stands for
    bent targets, and behind a driver of scales for driven ones.

    Args:
        rows: rows of at least two coordinates.
        drivers: coordinates that may steer the scales of the others.
    """
    by_place = tuple(_order_by_place(rows, list(range(rows.shape[1]))))
    found: list[tuple[tuple[int, ...], Shape]] = [(by_place, "bent")]
    for driver in drivers:
        found.append(((driver, *(index for index in by_place if index != driver)), "driven"))
    return tuple(found)


def _order_by_place(rows: Tensor, left: list[int]) -> list[int]:
    y = (rows - rows.mean(0)) / rows.std(0)
    last: list[int] = []
    while len(left) > 1:
        residuals = []
        for index in left:
            others = y[:, [other for other in left if other != index]]
            features = torch.cat([torch.ones_like(y[:, :1]), others, others.square()], 1)
            fitted = features @ _solve(features.T @ features, features.T @ y[:, index])
            residuals.append(float((y[:, index] - fitted).square().mean()))
        last.append(left[residuals.index(min(residuals))])
        left = [index for index in left if index != last[-1]]
    return left + last[::-1]


def _hinges(z: Tensor, turns: Tensor) -> Tensor:
    """1, z and smooth hinges in z, ``(n, 2 + turns)``; beyond the turns they are straight lines."""
    bent = TURN * torch.nn.functional.softplus((z[:, None] - turns) / TURN)
    return torch.cat([torch.ones_like(z)[:, None], z[:, None], bent], 1)


def _features(before: Tensor, turns: Tensor, shape: Shape) -> Tensor:
    """Features of a place, from the coordinates before it ``(n, j)``, the driver first."""
    z, others = before[:, 0], before[:, 1:]
    if shape == "bent":
        return torch.cat([torch.ones_like(z)[:, None], before, before.square()], 1)
    steps = ((z[:, None] - turns) / TURN).sigmoid()
    products = (others[:, :, None] * steps[:, None]).flatten(1)
    return torch.cat([torch.ones_like(z)[:, None], steps, others, products], 1)


def _worthwhile(features: Tensor, target: Tensor, shape: Shape) -> Tensor:
    """Indices of the features that a place needs: those of one coordinate where the others gain less than chance would.

    Few features matter where a target is bent, as coefficients of others are noise that grows with the square of a
    coordinate. Chance is measured by the Bayesian information criterion.
    """
    count, num_features = features.shape
    every = torch.arange(num_features, device=features.device)
    if shape == "driven" or num_features <= 3:
        return every
    num_before = (num_features - 1) // 2
    sets = [torch.tensor([0, 1 + index, 1 + num_before + index], device=every.device) for index in range(num_before)]
    costs, typical = [], None
    # The floor of 1e-300 keeps a feature that is zero everywhere, and residuals of an exact fit, out of 0 / 0 and log 0.
    for kept in (every, *sets):
        scaled = features[:, kept] / features[:, kept].square().mean(0).sqrt().clamp_min(1e-300)
        away = target - scaled @ torch.linalg.lstsq(scaled, target[:, None]).solution[:, 0]
        # Logarithms of squares beside a typical one: neither a few far rows nor a few that fit by chance decide.
        typical = away.square().median().clamp_min(1e-300) if typical is None else typical
        size = float((away.square() + typical).log().mean())
        costs.append(count * size + len(kept) * math.log(count))
    return (every, *sets)[costs.index(min(costs))]


def _fit_one(features: Tensor, hinges: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of place and log variance by alternating weighted least squares and scoring steps."""
    # Features that are zero everywhere have size 0: the floor leaves them zero in place of 0 / 0.
    sizes = features.square().mean(0).sqrt().clamp_min(torch.finfo(features.dtype).tiny)
    features = features / sizes  # the normal equations would square the condition number, so lstsq follows
    place = torch.linalg.lstsq(features, target[:, None]).solution[:, 0]
    residuals = target - features @ place
    scale = _solve(hinges.T @ hinges, hinges.T @ log_squares(residuals))
    for _ in range(NUM_ROUNDS):
        root = (-0.5 * hinges @ scale).exp()[:, None]
        place = torch.linalg.lstsq(root * features, root * target[:, None]).solution[:, 0]
        squared = (target - features @ place).square()
        for _ in range(NUM_SCORING_STEPS):
            ratio = squared * (-hinges @ scale).exp()
            # The larger of Fisher's and the observed information, so that no step goes too far.
            weighted = hinges * ratio.clamp_min(1)[:, None]
            scale = scale + _solve(weighted.T @ hinges, hinges.T @ (ratio - 1))
    return place / sizes, scale


def log_squares(residuals: Tensor) -> Tensor:
    """Log squared residuals, shifted so that their mean is the log variance of normal residuals.

    Without the shift the mean lies lower by log 2 + Euler's constant = 1.2704 (Harvey 1976).
    """
    # A residual of exactly 0 counts as the smallest positive number, as its logarithm is infinite.
    return residuals.square().clamp_min(torch.finfo(residuals.dtype).tiny).log() + 1.2704


def _solve(gram: Tensor, moments: Tensor) -> Tensor:
    return torch.linalg.solve(gram + RIDGE * gram.diagonal().diag(), moments)
