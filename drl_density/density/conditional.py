"""Conditionals, marginals and imputations of a fitted density: any columns given any others, without retraining."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from drl_density.distributions import EnergyDistribution, LogDensity, SampleResult
from drl_density.errors import DataError
from drl_density.model import EnergySequence
from drl_density.samplers import ConditionalResult, ConditionalSettings, plan_conditional, sample_conditional
from drl_density.transforms import column_log_jacobian
from drl_density.weights import LogPartitionEstimate, judge_estimate

if TYPE_CHECKING:
    from drl_density.density.fitted import Density


class SliceLogDensity:
    r"""log density over the missing columns in data units, the others fixed, unnormalised:
    :math:`F_0(T(x)) + \sum_{i\ \mathrm{missing}} \log\lvert u_i'(x_i)\rvert`. A picklable callable over rows ``(n, m)``.
    """

    def __init__(self, model: EnergySequence, transform: Transform, given: Tensor, is_missing: Tensor) -> None:
        self.model, self.transform, self.given, self.is_missing = model, transform, given, is_missing

    def __call__(self, x: Tensor) -> Tensor:
        place = self.is_missing.nonzero().flatten()
        full = self.given.to(x.dtype).expand(len(x), -1).index_copy(1, place, x)
        slope = column_log_jacobian(self.transform, full)[:, place].sum(1)
        return self.model.log_density(self.transform(full), 0) + slope

    def parameters(self) -> Any:
        """Parameters of the energy."""
        return self.model.network.parameters()


class SliceSampler:
    """Draws the missing columns by sequential Monte Carlo down the noise levels: the policy of a conditional."""

    def __init__(self, density: Density, given: Tensor, is_missing: Tensor, settings: ConditionalSettings) -> None:
        self.density, self.given, self.is_missing, self.settings = density, given, is_missing, settings

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """One draw per row of ``initial``."""
        count = len(initial)
        settings = dataclasses.replace(self.settings, num_particles=max(self.settings.num_particles, count))
        rows, mask = self.given[None], self.is_missing[None]
        result = sample_rows(self.density, rows, mask, num_draws=count, settings=settings, generator=generator)
        draws = to_data(self.density, result.draws[0])[:, self.is_missing]
        return SampleResult(
            draws.to(initial),
            {"acceptance_rate": result.acceptance_rate, "r_hat": result.r_hat, "ess": result.least_ess},
        )


def sample_rows(
    density: Density,
    rows: Tensor,
    is_missing: Tensor,
    *,
    num_draws: int,
    settings: ConditionalSettings,
    generator: torch.Generator | None,
) -> ConditionalResult:
    """Conditional draws of whole rows ``(n, d)`` in data units, the result in model space."""
    column_log_jacobian(density.transform, density.pool[:1].double())  # refuses a transform that mixes columns
    middle = density.pool.double().median(0).values
    u = density.transform(torch.where(is_missing, middle, rows.double()))
    bad = (~u.isfinite() & ~is_missing).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"row {row}: {float(rows[row, column]):g} of column {density.columns[column].name!r} lies outside the bounds "
            "that the density was fitted with, so there is nothing to condition on"
        )
    pool = density.transform(density.pool.double())
    plan = plan_conditional(density.model, pool, u, is_missing, settings=settings, generator=generator)
    return sample_conditional(
        density.model, u, is_missing, num_draws=num_draws, plan=plan, settings=settings, generator=generator
    )


def to_data(density: Density, u: Tensor) -> Tensor:
    """Model-space rows ``(*, d)`` in data units, float64."""
    with torch.no_grad():
        return density.transform.inv(u.double())


def condition(
    density: Density,
    given: Mapping[int | str, float] | Tensor,
    *,
    normalize: bool,
    seed: int | None,
    settings: ConditionalSettings | None,
) -> EnergyDistribution:
    """See :meth:`drl_density.density.Density.condition`."""
    row, is_missing = read_given(density, given)
    settings = settings or ConditionalSettings(num_particles=256)
    support = _support(density, is_missing)
    target = EnergyDistribution(
        SliceLogDensity(density.model, density.transform, row, is_missing),
        (int(is_missing.sum()),),
        support=support,
        sampler=SliceSampler(density, row, is_missing, settings),
        initial=_Zeros(int(is_missing.sum())),
        is_integrable=density.model.is_integrable,
    )
    if not normalize:
        return target
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return target.normalize(slice_estimate(density, row, is_missing, settings=settings, generator=generator))


class _Zeros:
    """Placeholder starting points: the slice sampler makes its own."""

    def __init__(self, num_columns: int) -> None:
        self.num_columns = num_columns

    def __call__(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        return torch.zeros(num_rows, self.num_columns, dtype=torch.float64)


def slice_estimate(
    density: Density,
    row: Tensor,
    is_missing: Tensor,
    *,
    settings: ConditionalSettings,
    generator: torch.Generator | None,
) -> LogPartitionEstimate:
    """log normaliser of one slice in model space, with error and verdict."""
    many = dataclasses.replace(settings, num_replicates=max(8, settings.num_replicates))
    result = sample_rows(density, row[None], is_missing[None], num_draws=2, settings=many, generator=generator)
    return judge_estimate(result.log_weights[0], bias="lower", details={"least_ess_share": float(result.least_ess[0])})


def read_given(density: Density, given: Mapping[int | str, float] | Tensor) -> tuple[Tensor, Tensor]:
    """(row with NaN in missing places, mask of missing columns), flat.

    Raises:
        DataError: unknown columns, values that are not finite, everything or nothing given.
    """
    count = torch.Size(density.event_shape).numel()
    if isinstance(given, Mapping):
        row = torch.full((count,), math.nan, dtype=torch.float64)
        for key, value in given.items():
            if not math.isfinite(value):
                raise DataError(f"column {key!r}: expected a finite number to condition on, got {value}")
            row[column_index(density, key)] = float(value)
    else:
        row = torch.as_tensor(given, dtype=torch.float64).flatten()
        if row.numel() != count or bool(row.isinf().any()):
            raise DataError(
                f"expected a point of shape {tuple(density.event_shape)} with NaN where values are missing, got shape "
                f"{tuple(torch.as_tensor(given).shape)}"
            )
    is_missing = row.isnan()
    if bool(is_missing.all()) or not bool(is_missing.any()):
        what = "nothing is given" if bool(is_missing.all()) else "every column is given"
        raise DataError(f"{what}: condition on at least one column and leave at least one")
    return row, is_missing


def column_index(density: Density, key: int | str) -> int:
    """Index of a column by index or name."""
    names = [column.name for column in density.columns]
    if isinstance(key, str):
        if key in names:
            return names.index(key)
        close = difflib.get_close_matches(key, names)
        hint = f"did you mean {', '.join(close)}?" if close else f"columns are {', '.join(names)}"
        raise DataError(f"there is no column {key!r}: {hint}")
    if not 0 <= key < len(names):
        raise DataError(f"column indices run from 0 to {len(names) - 1}, got {key}")
    return int(key)


@dataclass(frozen=True)
class MarginalDensity:
    """The density of some columns, the others integrated out: the ratio of two normalisers, each estimated.

    Attributes:
        density: of all columns.
        columns: indices of the columns kept, in order.
        settings: sizes of each integral.
        seed: of the estimates.
    """

    density: Density
    columns: tuple[int, ...]
    settings: ConditionalSettings
    seed: int = 0

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of rows ``(n, len(columns))`` in data units, nats, ``(n,)``; it errs low by Jensen's inequality."""
        return self.log_prob_and_error(x)[0]

    def log_prob_and_error(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log density and its standard error, log Z's included, each ``(n,)``.

        Raises:
            DataError: rows of another width, or values outside the fitted bounds.
        """
        x = torch.as_tensor(x, dtype=torch.float64)
        if x.ndim != 2 or x.shape[1] != len(self.columns):
            raise DataError(f"expected rows of {len(self.columns)} columns, got shape {tuple(x.shape)}")
        place = torch.tensor(self.columns)
        rows = torch.full((len(x), len(self.density.columns)), math.nan, dtype=torch.float64)
        rows[:, place] = x
        generator = torch.Generator().manual_seed(self.seed)
        result = sample_rows(self.density, rows, rows.isnan(), num_draws=2, settings=self.settings, generator=generator)
        middle = self.density.pool.double().median(0).values
        filled = torch.where(rows.isnan(), middle, rows)
        slope = column_log_jacobian(self.density.transform, filled)[:, place].sum(1)
        estimate = self.density.estimate
        error = torch.hypot(result.standard_error, torch.tensor(estimate.standard_error, dtype=torch.float64))
        return result.log_z - estimate.value + slope, error


def marginal(
    density: Density, columns: Sequence[int | str], *, settings: ConditionalSettings | None, seed: int
) -> MarginalDensity:
    """See :meth:`drl_density.density.Density.marginal`."""
    chosen = tuple(column_index(density, key) for key in columns)
    if not chosen or len(set(chosen)) < len(chosen) or len(chosen) >= len(density.columns):
        raise DataError(
            f"expected some but not all of the {len(density.columns)} columns, each once, got {list(columns)}"
        )
    settings = settings or ConditionalSettings(num_replicates=8, num_final_steps=8)
    return MarginalDensity(density, chosen, settings, seed)


@dataclass(frozen=True)
class Imputation:
    """Completed rows and how far they can be trusted.

    Attributes:
        rows: ``(imputation, row, d)`` in data units; observed cells exactly as given.
        is_missing: ``(row, d)``.
        least_ess: least weight ESS share of each row on the way, NaN for complete rows.
        acceptance_rate: of the final chains, NaN for complete rows.
        r_hat: worst split R-hat of each row, NaN for complete rows.
    """

    rows: Tensor
    is_missing: Tensor
    least_ess: Tensor
    acceptance_rate: Tensor
    r_hat: Tensor


def impute(
    density: Density,
    rows: Tensor,
    *,
    num_imputations: int,
    seed: int,
    settings: ConditionalSettings | None,
) -> Imputation:
    """See :meth:`drl_density.density.Density.impute`."""
    count = torch.Size(density.event_shape).numel()
    rows = torch.as_tensor(rows, dtype=torch.float64)
    if num_imputations < 1:
        raise DataError(f"num_imputations must be at least 1, got {num_imputations}")
    if rows.ndim < 1 or len(rows) == 0 or rows[0].numel() != count:
        raise DataError(f"expected rows of shape {tuple(density.event_shape)}, got {tuple(rows.shape)}")
    rows = rows.reshape(len(rows), count)
    if bool(rows.isinf().any()):
        raise DataError(f"row {int(rows.isinf().any(1).nonzero()[0])} holds an infinite value; mark holes with NaN")
    is_missing = rows.isnan()
    result = rows.expand(num_imputations, -1, -1).clone()
    generator = torch.Generator().manual_seed(seed)
    figures = torch.full((3, len(rows)), math.nan, dtype=torch.float64)
    is_empty, has_holes = is_missing.all(1), is_missing.any(1)
    partly = has_holes & ~is_empty
    if bool(partly.any()):
        found = sample_rows(
            density,
            rows[partly],
            is_missing[partly],
            num_draws=num_imputations,
            settings=settings or ConditionalSettings(),
            generator=generator,
        )
        drawn = to_data(density, found.draws).transpose(0, 1)
        result[:, partly] = torch.where(is_missing[partly], drawn, rows[partly])
        figures[:, partly] = torch.stack([found.least_ess, found.acceptance_rate.double(), found.r_hat])
    if bool(is_empty.any()):
        draws = density.sample(num_imputations * int(is_empty.sum()), generator=generator)
        result[:, is_empty] = draws.reshape(num_imputations, -1, count).to(result)
    return Imputation(result, is_missing, *figures)


def _support(density: Density, is_missing: Tensor) -> constraints.Constraint | None:
    from drl_density.density.fitted import bounded_support

    bounds = getattr(density.transform, "bounds", None)
    return None if bounds is None else bounded_support(bounds[0][is_missing], bounds[1][is_missing])
