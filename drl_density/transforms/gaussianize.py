"""Gaussianisation: maps every column to N(0, 1) by the distribution function of its fitted marginal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.errors import DataError
from drl_density.transforms.data_transform import Bounds, DataTransform
from drl_density.transforms.marginals import Marginals, MixtureFit, fit_mixture

NUM_COMPONENTS = (1, 2, 3, 5, 8)
"""Numbers of components that are tried: our own choice, up to where tables of some thousand rows gain nothing."""
LARGEST_FIT = 5_000
"""Most rows that marginals are fitted to: a column's mixture is settled by then, and the fit stays short."""
_FAR_TAIL = -600.0
"""Log probability below which exp underflows soon (at -745) and the asymptotic series takes over."""


def log_probability_to_normal(log_lower: Tensor, log_upper: Tensor) -> Tensor:
    """Phi^{-1} of a probability whose log is ``log_lower`` and whose complement has log ``log_upper``.

    It keeps its accuracy far beyond the range of floating-point probabilities.

    >>> tails = torch.tensor([-5000.0, -0.6931471805599453], dtype=torch.float64)
    >>> log_probability_to_normal(tails, torch.log(-torch.expm1(tails)))[0] < -99
    tensor(True)
    """
    is_lower = log_lower < log_upper
    tail = torch.where(is_lower, log_lower, log_upper)
    is_far = tail < _FAR_TAIL
    near = torch.special.ndtri(torch.where(is_far, torch.full_like(tail, -1.0), tail).exp())
    far = -_far_root(torch.where(is_far, tail, torch.full_like(tail, 2 * _FAR_TAIL)))
    value = torch.where(is_far, far, near)
    return torch.where(is_lower, value, -value)


def _far_root(log_tail: Tensor) -> Tensor:
    """|u| with log Phi(-|u|) = ``log_tail``: the fixed point of u^2 = v - log u^2 + 2 log(1 - 1/u^2 + 3/u^4 - ...).

    Source of the series: Abramowitz and Stegun 1964, 26.2.12.
    """
    v = -2 * log_tail - math.log(2 * math.pi)
    square = v - v.log()
    # Each round shrinks the error by 1 / u^2, which is below 1e-3 here: five leave nothing of it.
    for _ in range(5):
        series = -1 / square + 3 / square**2 - 15 / square**3 + 105 / square**4
        square = v - square.log() + 2 * torch.log1p(series)
    return square.sqrt()


class MarginalGaussianization(DataTransform):
    r"""u_i = Phi^{-1}(F_i(x_i)) with the CDF F_i of each column's fitted marginal.

    The log-Jacobian is :math:`\sum_i \log f_i(x_i) - \log\phi(u_i)`, so N(0, I) in u is exactly the model of
    independent columns.

    Args:
        marginals: the fitted density of every column.
        names: names of the columns, used in messages; their indices when not given.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> logistic = Marginals(("linear",), zero, one, zero, one, zero[None], zero[None], one[None])
    >>> MarginalGaussianization(logistic, ["x"])(torch.tensor([[1.0]]))
    tensor([[0.6160]])
    """

    kind = "gaussianization"

    def __init__(self, marginals: Marginals, names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.marginals = marginals
        self.names = tuple(names) if names is not None else tuple(str(i) for i in range(len(marginals.coordinates)))

    @property
    def bounds(self) -> Bounds:
        """The declared ends of the columns, outside which their marginals are zero."""
        kinds = self.marginals.coordinates
        has_lower = torch.tensor([kind in ("above", "between") for kind in kinds])
        has_upper = torch.tensor([kind in ("below", "between") for kind in kinds])
        lower = torch.where(has_lower, self.marginals.lower, -math.inf)
        return Bounds(lower, torch.where(has_upper, self.marginals.upper, math.inf))

    @property
    def tail_scale(self) -> Tensor:
        """Scale of the widest logistic component of each column near a bound; 0 for columns without bounds.

        Near a bound the distance to it is a power of the tail probability, whose exponent is that scale.
        """
        marginals = self.marginals
        widest = torch.where(marginals.log_weights > -math.inf, marginals.scales, 0.0).amax(1)
        is_bounded = torch.tensor([kind in ("above", "below", "between") for kind in marginals.coordinates])
        return torch.where(is_bounded, widest, 0.0).double()

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The coordinates and names of the columns, and the tensors of the marginals."""
        settings = {"kind": self.kind, "coordinates": list(self.marginals.coordinates), "names": list(self.names)}
        return settings, self.marginals.tensors()

    @classmethod
    def from_state(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The map with the coordinates and names in ``settings`` and the marginals in ``tensors``."""
        return cls(Marginals(coordinates=tuple(settings["coordinates"]), **tensors), settings["names"])

    def column_log_jacobian(self, x: Tensor) -> Tensor:
        """log f_i(x_i) - log phi(u_i) of every column of ``x`` ``(*, d)``."""
        return (self.marginal_log_density(x) - _log_normal(self(x))).to(x.dtype)

    def single_column(self, index: int) -> MarginalGaussianization:
        """The map through the marginal of column ``index``."""
        one = slice(index, index + 1)
        return MarginalGaussianization(self.marginals.select(one), self.names[one])

    def marginal_log_density(self, x: Tensor) -> Tensor:
        """log density of each column of ``x`` ``(*, d)`` under its fitted marginal, nats, float64."""
        return self.marginals.log_density(x.double())

    def carry_tail(self, scale: Tensor) -> Tensor:
        """Inf for any ``scale``: growth before a quantile map is not followed."""
        return torch.full(scale.shape, math.inf, dtype=torch.float64)

    def describe(self) -> list[str]:
        """One line per column: its name, number of components and coordinate."""
        lines = []
        for index, (name, kind) in enumerate(zip(self.names, self.marginals.coordinates, strict=True)):
            count = int((self.marginals.log_weights[index] > -math.inf).sum())
            lines.append(f"{name}: {count} logistic component{'s' * (count > 1)}, {kind} coordinate")
        return lines

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum over the columns of log f_i(x_i) - log phi(u_i)."""
        return (self.marginal_log_density(x) - _log_normal(y)).sum(-1).to(x.dtype)

    def _call(self, x: Tensor) -> Tensor:
        y, _ = self.marginals.to_coordinate(x.double())
        _, below, above = self.marginals.log_parts(y)
        return log_probability_to_normal(below, above).to(x.dtype)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.marginals.from_coordinate(self.marginals.quantile_coordinate(y.double())).to(y.dtype)


def _log_normal(u: Tensor) -> Tensor:
    """log phi(u), float64."""
    return -0.5 * u.double().square() - 0.5 * math.log(2 * math.pi)


def fit_marginal_gaussianization(
    x: Tensor,
    *,
    widths: Tensor | None = None,
    lower: Tensor | None = None,
    upper: Tensor | None = None,
    is_positive: Tensor | None = None,
    weights: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> MarginalGaussianization:
    """Fits the marginal of every column and returns the map to N(0, 1) columns.

    Every fifth row is held out to choose the coordinate and the number of components; both are then refitted to all.

    Args:
        x: rows ``(rows, d)``, dequantised where columns are rounded; NaN marks missing values, which are ignored.
        widths: rounding width of every column, 0 for none; no component is narrower than 0.3 of it.
        lower: declared lower bound of every column, -inf for none, below which there is no mass.
        upper: declared upper bound of every column, inf for none, above which there is no mass.
        is_positive: which columns also try the logarithm as a coordinate.
        weights: relative weight of each row, ``(rows,)``; all equal when not given.
        names: names of the columns for messages; "column 0", ... when not given.

    Raises:
        DataError: a constant column, or values on or outside declared bounds.

    >>> rows = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)).double()
    >>> transform = fit_marginal_gaussianization(rows)
    >>> bool(torch.allclose(transform.inv(transform(rows)), rows))
    True
    """
    x = x.double()
    if len(x) > LARGEST_FIT:
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:LARGEST_FIT]
        x, weights = x[chosen], None if weights is None else weights[chosen]
    num_columns = x.shape[1]
    names = tuple(names) if names is not None else tuple(f"column {index}" for index in range(num_columns))
    none = torch.full((num_columns,), math.inf, dtype=torch.float64)
    lower = -none if lower is None else lower.double()
    upper = none if upper is None else upper.double()
    widths = torch.zeros(num_columns).double() if widths is None else widths.double()
    is_positive = torch.zeros(num_columns, dtype=torch.bool) if is_positive is None else is_positive
    if bool(x.isnan().any()):
        return _fit_each_to_its_own(x, widths, (lower, upper), is_positive, weights, names)
    _check(x, lower, upper, names)
    frame = _frame(x, lower, upper)
    best: list[tuple[float, str, int]] = [(-math.inf, "linear", 1)] * num_columns
    for kinds in _candidate_coordinates(lower, upper, is_positive):
        trial = dataclasses.replace(frame, coordinates=kinds, lower=_lower_of(kinds, lower))
        best = _better(best, _scores(x, trial, widths, weights), kinds)
    kinds = tuple(kind for _, kind, _ in best)
    chosen_frame = dataclasses.replace(frame, coordinates=kinds, lower=_lower_of(kinds, lower))
    return MarginalGaussianization(_refit(x, chosen_frame, [count for _, _, count in best], widths, weights), names)


def _fit_each_to_its_own(
    x: Tensor,
    widths: Tensor,
    bounds: tuple[Tensor, Tensor],
    is_positive: Tensor,
    weights: Tensor | None,
    names: Sequence[str],
) -> MarginalGaussianization:
    """Fits every column by itself to its values that are not missing, and joins the columns."""
    columns = []
    for index, name in enumerate(names):
        one, seen = slice(index, index + 1), ~x[:, index].isnan()
        column = fit_marginal_gaussianization(
            x[seen, one],
            widths=widths[one],
            lower=bounds[0][one],
            upper=bounds[1][one],
            is_positive=is_positive[one],
            weights=None if weights is None else weights[seen],
            names=[name],
        )
        columns.append(column.marginals)
    size = max(column.scales.shape[1] for column in columns)

    def joined(name: str, empty: float) -> Tensor:
        parts = [getattr(column, name) for column in columns]
        return torch.cat([functional.pad(part, (0, size - part.shape[1]), value=empty) for part in parts])

    return MarginalGaussianization(
        Marginals(
            coordinates=tuple(column.coordinates[0] for column in columns),
            centers=torch.cat([column.centers for column in columns]),
            widths=torch.cat([column.widths for column in columns]),
            lower=torch.cat([column.lower for column in columns]),
            upper=torch.cat([column.upper for column in columns]),
            log_weights=joined("log_weights", -math.inf),
            locations=joined("locations", 0.0),
            scales=joined("scales", 1.0),
        ),
        names,
    )


def _check(x: Tensor, lower: Tensor, upper: Tensor, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        column = x[:, index]
        if bool(column.max() == column.min()):
            raise DataError(f"{name} is constant ({float(column[0]):g}): it has no density; drop it")
        if not bool(((column > lower[index]) & (column < upper[index])).all()):
            raise DataError(
                f"{name} has values in [{float(column.min()):g}, {float(column.max()):g}], expected strictly inside "
                f"({float(lower[index]):g}, {float(upper[index]):g}): widen the bounds or drop those rows"
            )


def _frame(x: Tensor, lower: Tensor, upper: Tensor) -> Marginals:
    center = x.median(0).values
    quartiles = torch.quantile(x, torch.tensor([0.25, 0.75], dtype=x.dtype), dim=0)
    spread = (quartiles[1] - quartiles[0]) / 1.35
    width = torch.where(spread > 0, spread, x.std(0))
    empty = torch.zeros(x.shape[1], 1, dtype=x.dtype)
    return Marginals(("linear",) * x.shape[1], center, width, lower, upper, empty, empty, empty)


def _lower_of(kinds: Sequence[str], lower: Tensor) -> Tensor:
    """The lower bounds, with zero for columns that use the logarithm without a declared bound."""
    is_free = torch.tensor([kind == "above" for kind in kinds]) & lower.isinf()
    return torch.where(is_free, 0.0, lower)


def _candidate_coordinates(lower: Tensor, upper: Tensor, is_positive: Tensor) -> list[tuple[str, ...]]:
    """Coordinates to try in each round, one per column; a bounded column has a single choice."""
    options = []
    for low, high, positive in zip(lower.tolist(), upper.tolist(), is_positive.tolist(), strict=True):
        if low > -math.inf and high < math.inf:
            options.append(["between"])
        elif low > -math.inf or high < math.inf:
            options.append(["above" if low > -math.inf else "below"])
        else:
            options.append(["linear", "asinh"] + (["above"] if positive else []))
    rounds = max(len(option) for option in options)
    return [tuple(option[min(index, len(option) - 1)] for option in options) for index in range(rounds)]


def _least_scale(y: Tensor, slope: Tensor, widths: Tensor) -> Tensor:
    """Smallest component scale in the coordinate, from the spread and from the rounding width carried over.

    The shares 0.03 and 0.3 are our own choice. A logistic component of scale 0.3 w spreads over about one width w, so
    that rounded values cannot become spikes.
    """
    rounding = 0.3 * widths * slope.exp().median(0).values
    return torch.maximum(0.03 * y.std(0), rounding)


def _scores(
    x: Tensor, frame: Marginals, widths: Tensor, weights: Tensor | None
) -> list[list[tuple[float, float, int]]]:
    """Held-out mean log density, its standard error and the number of components, per column and size tried."""
    is_held = torch.arange(len(x)) % 5 == 4
    y, slope = frame.to_coordinate(x)
    least = _least_scale(y, slope, widths)
    fitted_weights = None if weights is None else weights[~is_held].double()
    rows: list[list[tuple[float, float, int]]] = [[] for _ in range(x.shape[1])]
    for count in NUM_COMPONENTS:
        # At least 15 rows a component, our own choice: five a parameter.
        if count > 1 and count * 15 > int((~is_held).sum()):
            break
        fit = fit_mixture(y[~is_held], count, least, weights=fitted_weights)
        values = fit.log_density(y[is_held]) + slope[is_held]
        for index in range(x.shape[1]):
            column = values[:, index]
            rows[index].append((float(column.mean()), float(column.std(correction=0)) / math.sqrt(len(column)), count))
    return rows


def _better(
    best: list[tuple[float, str, int]], scores: list[list[tuple[float, float, int]]], kinds: Sequence[str]
) -> list[tuple[float, str, int]]:
    """Takes a column's new coordinate if its best size scores higher.

    More components must gain a tenth of a standard error, another coordinate a thousandth of a nat: both our own
    choice, so that ties go to the simpler one.
    """
    result = []
    for old, column, kind in zip(best, scores, kinds, strict=True):
        value, count = column[0][0], column[0][2]
        for mean, error, size in column[1:]:
            if mean > value + 0.1 * error:
                value, count = mean, size
        result.append((value, kind, count) if value > old[0] + 1e-3 else old)
    return result


def _refit(x: Tensor, frame: Marginals, counts: list[int], widths: Tensor, weights: Tensor | None) -> Marginals:
    """Fits the chosen sizes to all rows, padded to a common number of components."""
    y, slope = frame.to_coordinate(x)
    least = _least_scale(y, slope, widths)
    size = max(counts)
    shape = (x.shape[1], size)
    parts = MixtureFit(
        torch.full(shape, -math.inf, dtype=x.dtype), torch.zeros(shape, dtype=x.dtype), torch.ones(shape, dtype=x.dtype)
    )
    for count in sorted(set(counts)):
        columns = torch.tensor([index for index, value in enumerate(counts) if value == count])
        row_weights = None if weights is None else weights.double()
        fit = fit_mixture(y[:, columns], count, least[columns], weights=row_weights, num_steps=250)
        for target, source in zip(
            (parts.log_weights, parts.locations, parts.scales),
            (fit.log_weights, fit.locations, fit.scales),
            strict=True,
        ):
            target[columns, :count] = source
    return dataclasses.replace(frame, log_weights=parts.log_weights, locations=parts.locations, scales=parts.scales)
