"""Fits the marginals of all columns: mixtures of logistic components, with spikes or without, and histograms."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.errors import DataError
from drl_density.transforms.gaussianize import MarginalGaussianization
from drl_density.transforms.marginals import Marginals, fit_histogram, frequent_values
from drl_density.transforms.mixture_fit import MixtureFit, fit_mixture
from drl_density.transforms.units import binary_units

NUM_COMPONENTS = (1, 2, 3, 5, 8)
"""Numbers of components that are tried: our own choice, up to where tables of some thousand rows gain nothing."""
LARGEST_FIT = 5_000
"""Most rows that marginals are fitted to: a column's mixture is settled by then, and the fit stays short."""
LEAST_VALUES = 8
"""Values of a column with missing ones at least: a fifth of them is held out, and the others need a spread."""
LEAST_SPIKED = 500
"""Rows from which columns may get spikes: of fewer, hardly a value is frequent enough for its share to be known."""
LEAST_EQUAL, LEAST_SHARE = 20, 0.05
"""Rows with one value from which it may be a spike, and share of the rows that all spikes of a column hold at least."""
MOST_SPIKES = 200
"""Spikes of a column, the most frequent values: each transform looks them up."""
LEAST_GAIN = 0.3
"""Nats a row that spikes must gain: flows learn smaller steps of a density by themselves, and its jumps less well."""
LEAST_BETWEEN = 50
"""Values between the spikes from which they get a mixture of their own."""
LEAST_GAP = 1e-6
"""Share of the rounding width from which a gap between cells is one: decimals miss their grid by less."""


def fit_marginal_gaussianization(
    x: Tensor,
    *,
    widths: Tensor | None = None,
    lower: Tensor | None = None,
    upper: Tensor | None = None,
    is_positive: Tensor | None = None,
    supports: Sequence[tuple[float, ...]] | None = None,
    weights: Tensor | None = None,
    names: Sequence[str] | None = None,
    values: Tensor | None = None,
) -> MarginalGaussianization:
    """Fits the marginal of every column and returns the map to N(0, 1) columns.

    A column with a closed support gets a histogram of its values. For the others every fifth row is held out to choose the
    coordinate and the number of components of a mixture; both are then refitted to all rows. In tables of 500 rows or more
    a rounded column gets spikes at its frequent values, beside a mixture of the rest, where these gain 0.3 nats a row.

    Args:
        x: rows ``(rows, d)``, dequantised where columns are rounded; NaN marks missing values, which are ignored.
        widths: rounding width of every column, 0 for none; no component is narrower than 0.3 of it.
        lower: declared lower bound of every column, -inf for none, below which there is no mass.
        upper: declared upper bound of every column, inf for none, above which there is no mass.
        is_positive: which columns also try the logarithm as a coordinate.
        supports: permitted values of every column, ascending; () for an open support. Their cells have the column's width.
        weights: relative weight of each row, ``(rows,)``; all equal when not given.
        names: names of the columns for messages; "column 0", ... when not given.
        values: the rows before they were dequantised, ``(rows, d)``, for spikes; without them there are none.

    Raises:
        DataError: a constant column, values on or outside declared bounds, or a column of fewer than eight values beside
            missing ones.

    >>> rows = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)).double()
    >>> transform = fit_marginal_gaussianization(rows)
    >>> bool(torch.allclose(transform.inv(transform(rows)), rows))
    True
    """
    x = x.double()
    num_columns = x.shape[1]
    names = tuple(names) if names is not None else tuple(f"column {index}" for index in range(num_columns))
    none = torch.full((num_columns,), math.inf, dtype=torch.float64)
    lower = -none if lower is None else lower.double()
    upper = none if upper is None else upper.double()
    widths = torch.zeros(num_columns).double() if widths is None else widths.double()
    is_positive = torch.zeros(num_columns, dtype=torch.bool) if is_positive is None else is_positive
    supports = [()] * num_columns if supports is None else supports
    free = torch.tensor([index for index, support in enumerate(supports) if not support], dtype=torch.long)
    parts: list[Marginals] = []
    order = free.tolist()
    if len(free):
        some = _some(len(x))
        bounds = (lower[free], upper[free])
        fitted_weights = None if weights is None else weights[some]
        free_names = [names[index] for index in order]
        found = _fit_mixtures(x[some][:, free], widths[free], bounds, is_positive[free], fitted_weights, free_names)
        if values is not None and len(x) >= LEAST_SPIKED:
            rest = (widths.tolist(), zip(lower[:, None], upper[:, None], strict=True), is_positive.tolist())
            table = [(name, *own) for name, *own in zip(names, x.T, values.T, *rest, strict=True)]
            found = _with_spikes(found, (_Column(*table[index], weights=weights) for index in order))
        parts.append(found)
    for index, support in enumerate(supports):
        if support:
            order.append(index)
            parts.append(_cell_marginals(x[:, index], support, float(widths[index]), weights))
    return MarginalGaussianization(_joined(parts, order) if len(parts) > 1 else parts[0], names)


@dataclass(frozen=True, eq=False)
class _Column:
    """One column of a table.

    Attributes:
        name: its name for messages.
        x: dequantised values ``(n,)``.
        values: the values before ``(n,)``, in any type.
        width: rounding width, 0 for none.
        bounds: declared lower and upper bound, ``(1,)`` each.
        is_positive: whether the logarithm is a coordinate.
        weights: relative weight of each row, or None.
    """

    name: str
    x: Tensor
    values: Tensor
    width: float
    bounds: tuple[Tensor, Tensor]
    is_positive: bool
    weights: Tensor | None

    def chosen(self, rows: Tensor | slice) -> _Column:
        """Some of the rows, by a mask, by indices, or by a slice."""
        weights = None if self.weights is None else self.weights[rows]
        return dataclasses.replace(self, x=self.x[rows], values=self.values[rows], weights=weights)

    def thinned(self) -> _Column:
        """At most :data:`LARGEST_FIT` of the rows."""
        return self.chosen(_some(len(self.x)))

    def mean(self, per_row: Tensor) -> float:
        """Mean of a value of each row, by weight."""
        weights = torch.ones_like(per_row) if self.weights is None else self.weights.to(per_row)
        return float((weights * per_row).sum() / weights.sum())


def _some(num_rows: int) -> Tensor | slice:
    """At most :data:`LARGEST_FIT` rows, the same ones in every call."""
    if num_rows <= LARGEST_FIT:
        return slice(None)
    return torch.randperm(num_rows, generator=torch.Generator().manual_seed(0))[:LARGEST_FIT]


def _with_spikes(plain: Marginals, table: Iterable[_Column]) -> Marginals:
    """The marginals of all columns, with spikes in those that gain by them; one column is looked at after the other."""
    places = range(len(plain.coordinates))
    alone = [plain.select(torch.tensor([place])) for place in places]
    spiked = [_spiked(column, own) for column, own in zip(table, alone, strict=True)]
    if all(each is None for each in spiked):
        return plain
    return _joined([each or own for each, own in zip(spiked, alone, strict=True)], list(places))


def _spiked(column: _Column, plain: Marginals) -> Marginals | None:
    """The marginal of one column with spikes at its frequent values, or None where these gain too little.

    Args:
        column: the column, whose missing values do not count.
        plain: its marginal without spikes.
    """
    column = column.chosen(~column.x.isnan())
    lower, upper = _frequent_cells(column, plain)
    if not len(lower):
        return None
    place = torch.searchsorted(torch.stack([lower, upper], 1).flatten(), column.x, right=True)
    is_between = place % 2 == 0
    weights = torch.ones_like(column.x) if column.weights is None else column.weights.double() / column.weights.mean()
    counts = torch.bincount(place[~is_between] // 2, weights=weights[~is_between], minlength=len(lower))
    # Half a row more between the spikes, where there may be none.
    log_shares = (counts / (weights.sum() + 0.5)).log()
    cells = {"spike_lower": lower[None], "spike_upper": upper[None], "spike_log_shares": log_shares[None]}
    some = column.thinned()
    before = plain.log_density(some.x[:, None])

    def gain(spiked: Marginals) -> float:
        # Every share that is estimated from the rows costs 1/n on others: Akaike 1974.
        return some.mean((spiked.log_density(some.x[:, None]) - before)[:, 0]) - len(lower) / len(column.x)

    spiked = dataclasses.replace(plain, **cells)
    if gain(spiked) >= 0 and int(is_between.sum()) >= LEAST_BETWEEN:
        rest = column.chosen(is_between).thinned()
        is_positive = torch.tensor([column.is_positive and plain.coordinates[0] == "above"])  # so no cell is below 0
        widths = torch.tensor([column.width], dtype=torch.float64)
        slab = _fit_mixtures(rest.x[:, None], widths, column.bounds, is_positive, rest.weights, [column.name])
        spiked = dataclasses.replace(slab, **cells)
    return spiked if gain(spiked) >= LEAST_GAIN else None


def _frequent_cells(column: _Column, plain: Marginals) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of the cells of frequent values, inside the bounds; none where these hold too few rows.

    Cells that fill a column from bound to bound leave the rarest of the values to the slab, which needs a place.
    """
    nothing = torch.empty(0, dtype=torch.float64)
    if not column.width or len(column.x) < LEAST_SPIKED:
        return nothing, nothing
    found = frequent_values(column.values.double(), column.width, least=LEAST_EQUAL, most=MOST_SPIKES)
    for chosen in (found, found[:-1]):
        if sum(count for _, count in chosen) < LEAST_SHARE * len(column.x):
            break
        centers = torch.tensor(sorted(value for value, _ in chosen), dtype=torch.float64)
        lower = (centers - 0.5 * column.width).maximum(plain.lower)
        upper = (centers + 0.5 * column.width).minimum(plain.upper)
        lower[1:] = lower[1:].maximum(upper[:-1])
        lower, upper = lower[upper > lower], upper[upper > lower]
        gaps = torch.cat([lower, plain.upper]) - torch.cat([plain.lower, upper])
        if bool((gaps > LEAST_GAP * column.width).any()):
            return lower, upper
    return nothing, nothing


def _cell_marginals(x: Tensor, support: tuple[float, ...], width: float, weights: Tensor | None) -> Marginals:
    """The histogram of one column, from its values that are not missing."""
    seen = ~x.isnan()
    values = torch.tensor(support, dtype=torch.float64)
    found = fit_histogram(x[seen], values, width, weights=None if weights is None else weights[seen])
    zero, scale = torch.zeros(1, 1, dtype=torch.float64), torch.full((1,), width, dtype=torch.float64)
    ends = (values[:1] - 0.5 * width, values[-1:] + 0.5 * width)
    return Marginals(
        ("cells",), values[:1], scale, *ends, zero, zero, zero + 1.0, found.values[None], found.log_shares[None]
    )


def _fit_mixtures(
    x: Tensor,
    widths: Tensor,
    bounds: tuple[Tensor, Tensor],
    is_positive: Tensor,
    weights: Tensor | None,
    names: Sequence[str],
) -> Marginals:
    """Mixtures of all columns at once, or, where values are missing, of every column to its own values."""
    if bool(x.isnan().any()):
        columns = []
        for index, name in enumerate(names):
            one, seen = slice(index, index + 1), ~x[:, index].isnan()
            if int(seen.sum()) < LEAST_VALUES:
                raise DataError(
                    f"{name} has {int(seen.sum())} values in the {len(x)} rows that marginals are fitted to, and needs "
                    f"{LEAST_VALUES} at least: drop the column, or give more rows that have it"
                )
            own = None if weights is None else weights[seen]
            ends = (bounds[0][one], bounds[1][one])
            columns.append(_fit_mixtures(x[seen, one], widths[one], ends, is_positive[one], own, [name]))
        return _joined(columns, list(range(len(names))))
    lower, upper = bounds
    _check(x, lower, upper, names)
    frame = _frame(x, lower, upper)
    best: list[tuple[float, str, int]] = [(-math.inf, "linear", 1)] * x.shape[1]
    options = _candidate_coordinates(lower, upper, is_positive)
    trials = [dataclasses.replace(frame, coordinates=kinds, lower=_lower_of(kinds, lower)) for kinds in options]
    for kinds, scores in zip(options, _scores(x, trials, widths, weights), strict=True):
        best = _better(best, scores, kinds)
    kinds = tuple(kind for _, kind, _ in best)
    chosen_frame = dataclasses.replace(frame, coordinates=kinds, lower=_lower_of(kinds, lower))
    return _refit(x, chosen_frame, [count for _, _, count in best], widths, weights)


def _joined(parts: Sequence[Marginals], order: Sequence[int]) -> Marginals:
    """The marginals of several groups of columns as one; column i of the groups in turn is column ``order[i]``."""
    place = torch.tensor(order).argsort()
    kinds = [kind for part in parts for kind in part.coordinates]
    padding = {"log_weights": -math.inf, "locations": 0.0, "scales": 1.0, "values": math.inf, "log_shares": -math.inf}
    padding |= {"spike_lower": math.inf, "spike_upper": math.inf, "spike_log_shares": -math.inf}
    joined = {}
    for name in parts[0].tensors():
        own = [part.tensors()[name] for part in parts]
        if name in padding:
            size = max(tensor.shape[1] for tensor in own)
            own = [
                functional.pad(tensor, (0, size - tensor.shape[1]), value=padding[name])
                if len(tensor)
                else torch.full((len(part.coordinates), size), padding[name], dtype=torch.float64)
                for tensor, part in zip(own, parts, strict=True)
            ]
        joined[name] = torch.cat(own)[place]
    return Marginals(coordinates=tuple(kinds[index] for index in place.tolist()), **joined)


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
    unit = binary_units(x)
    width = torch.where(spread > 0, spread, (x / unit).std(0) * unit)
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
    x: Tensor, trials: Sequence[Marginals], widths: Tensor, weights: Tensor | None
) -> list[list[list[tuple[float, float, int]]]]:
    """Held-out mean log density, its standard error and the number of components, by trial, column and size tried."""
    is_held = torch.arange(len(x)) % 5 == 4
    # The coordinates of all trials are columns of one fit, which shares the cost of a step.
    placed = [trial.to_coordinate(x) for trial in trials]
    y, slope = (torch.cat(parts, -1) for parts in zip(*placed, strict=True))
    least = torch.cat([_least_scale(*own, widths) for own in placed])
    fitted_weights = None if weights is None else weights[~is_held].double()
    rows: list[list[tuple[float, float, int]]] = [[] for _ in range(y.shape[1])]
    for count in NUM_COMPONENTS:
        # At least 15 rows a component, our own choice: five a parameter.
        if count > 1 and count * 15 > int((~is_held).sum()):
            break
        fit = fit_mixture(y[~is_held], count, least, weights=fitted_weights)
        values = fit.log_density(y[is_held]) + slope[is_held]
        for index, column in enumerate(values.unbind(-1)):
            rows[index].append((float(column.mean()), float(column.std(correction=0)) / math.sqrt(len(column)), count))
    return [rows[start : start + x.shape[1]] for start in range(0, len(rows), x.shape[1])]


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
