"""Chooses how many factor analysers a mixture has, and of how many factors, on validation rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.bases.factor_analysers import FactorAnalysers
from drl_density.bases.fitting.factor_analysis import (
    ROWS_PER_COMPONENT,
    DrawRows,
    FactorSize,
    fit_factor_analysers,
)
from drl_density.errors import DataError
from drl_density.records.brief import brief

FIRST = FactorSize(4, 8)
"""Size from which the search doubles: a fit of it takes seconds for any images of 28 by 28 pixels."""
MOST_COMPONENTS, MOST_FACTORS = 256, 64
"""Largest number of components and of factors that the search tries."""
ROWS_PER_PARAMETER = 0.05
"""Rows times columns for each parameter at least: sizes beyond are never better on validation."""
MOST_SCORED = 2**24
"""Numbers in one temporary value of a scoring pass, 64 MiB in float32."""


@dataclass(frozen=True, eq=False)
class FittedFactors:
    """The mixture of factor analysers that scores best on validation.

    Attributes:
        base: the fitted density, in model space.
        size: its number of components and of factors, as asked for.
        scores: mean validation log density of every size that was tried, in nats a row, in the order of the search.
        remark: why the search ended before its largest size, a sentence.
    """

    base: FactorAnalysers
    size: FactorSize
    scores: dict[FactorSize, float]
    remark: str = ""

    __repr__ = brief


@dataclass(frozen=True)
class SizeSearch:
    """Limits of a search for the size of a mixture of factor analysers.

    Attributes:
        max_seconds: seconds of ``clock`` that the whole search may take.
        most_bytes: memory that one fit may take beside the rows; not checked when None.
        num_passes: passes over the rows of every fit.
        clock: a clock in seconds; the wall clock by default.
    """

    max_seconds: float = math.inf
    most_bytes: int | None = None
    num_passes: int = 6
    clock: Callable[[], float] = field(default_factory=lambda: time.monotonic)


def fit_factors_by_size(
    rows: Tensor | DrawRows,
    validation: Tensor,
    *,
    num_rows: int | None = None,
    search: SizeSearch | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> FittedFactors:
    """Fit mixtures of factor analysers of growing size, and return the best on validation.

    From 4 components of 8 factors the search doubles the components or the factors, whichever it did not double last, as
    long as validation improves. It goes back to 1 component if even 4 are too many. Each fit takes about twice the time of
    the one before, so that the search takes about three times as long as its last fit.

    Args:
        rows: rows ``(n, d)`` in model space, or a function that gives them by index.
        validation: validation rows ``(m, d)`` in model space.
        num_rows: number n of rows that a function can give.
        search: limits of the search; none when not given.
        generator: source of the first means and of the order of the rows.
        device: where the components are fitted; the CPU when not given.

    Raises:
        DataError: fewer than two rows.

    >>> x = torch.randn(400, 6) @ torch.randn(6, 6)
    >>> fit_factors_by_size(x[:300], x[300:]).base.num_features
    6
    """
    search = search or SizeSearch()
    count = num_rows if callable(rows) else len(rows)
    if count is None:
        raise DataError("give num_rows, the number of rows that the function can give")
    if count < ROWS_PER_COMPONENT:
        raise DataError(f"a mixture of factor analysers needs at least {ROWS_PER_COMPONENT} rows, got {count}")
    num_features, began = validation.shape[1], search.clock()
    fits: dict[FactorSize, tuple[float, FactorAnalysers]] = {}
    remark = ""

    def affordable(size: FactorSize, seconds: float) -> str:
        """Why a size is not tried; empty where it is."""
        parameters = size.num_components * num_features * (size.num_factors + 2)
        if count < ROWS_PER_COMPONENT * size.num_components or count * num_features < ROWS_PER_PARAMETER * parameters:
            return f"{count} rows are too few for {size.num_components} components of {size.num_factors} factors"
        if search.most_bytes is not None and size.num_bytes(num_features) > search.most_bytes:
            return f"{size.num_components} components of {size.num_factors} factors would not fit into memory"
        if search.clock() - began + seconds > search.max_seconds:
            return f"no time for {size.num_components} components of {size.num_factors} factors ({seconds:.0f} s)"
        return ""

    def tried(size: FactorSize) -> tuple[float, float]:
        """Score of a size, and the seconds that it took."""
        before = search.clock()
        base = fit_factor_analysers(
            rows,
            size,
            num_rows=count,
            num_passes=search.num_passes,
            most_bytes=search.most_bytes,
            generator=generator,
            device=device,
        )
        score = mean_log_density(base, validation)
        fits[size] = (score, base)
        return score, search.clock() - before

    few = max(1, count // 4)
    size = FactorSize(min(FIRST.num_components, max(1, count // 8)), min(FIRST.num_factors, num_features, few))
    if search.most_bytes is not None:
        size = size.largest_within(search.most_bytes, num_features) or FactorSize(1, 1)
    first = size
    best, seconds = tried(size)
    doubles_components, num_failed = True, 0
    while num_failed < 2:
        components, factors = size.num_components, size.num_factors
        larger = FactorSize(2 * components, factors) if doubles_components else FactorSize(components, 2 * factors)
        doubles_components, num_failed = not doubles_components, num_failed + 1
        if larger.num_components > MOST_COMPONENTS or larger.num_factors > min(MOST_FACTORS, num_features):
            continue
        reason = affordable(larger, 2 * seconds)
        if reason:
            remark = f"no larger mixture of factor analysers: {reason}"
            continue
        score, taken = tried(larger)
        if score > best:
            best, size, seconds, num_failed, remark = score, larger, taken, 0, ""
    is_smallest = size == first  # no doubling helped: fewer components may be better still
    while is_smallest and size.num_components > 1:
        smaller = FactorSize(size.num_components // 2, size.num_factors)
        if affordable(smaller, seconds) or tried(smaller)[0] <= best:
            break
        size, best = smaller, fits[smaller][0]
    scores = {tried_size: score for tried_size, (score, _) in fits.items()}
    return FittedFactors(fits[size][1], size, scores, remark)


def mean_log_density(base: FactorAnalysers, rows: Tensor) -> float:
    """Mean log density of rows ``(n, d)``, nats, in passes of bounded memory."""
    share = max(1, MOST_SCORED // (base.num_components * base.num_features))
    with torch.no_grad():
        values = [base.log_prob(part.float()).double() for part in rows.split(share)]
    return float(torch.cat(values).mean())
