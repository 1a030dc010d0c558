"""Conditionals, marginals and imputations of a fitted density: any columns given any others, without retraining."""

from __future__ import annotations

import dataclasses
import difflib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import constraints

from drl_density.density.conditioning.cells import cell_nodes, cell_positions
from drl_density.density.data_units import bounded_support
from drl_density.density.integrability import largest_power
from drl_density.distributions import EnergyDistribution, SampleResult
from drl_density.errors import DataError, DataWarning
from drl_density.inverse_problems import ConditionalResult, ConditionalSettings, plan_conditional, sample_conditional
from drl_density.mcmc import LogDensity
from drl_density.model import EnergySequence
from drl_density.transforms import DataTransform
from drl_density.weights import LogPartitionEstimate, PathSummary, judge_estimate

if TYPE_CHECKING:
    from drl_density.density.fitted import Density


class SliceLogDensity:
    r"""log density over the missing columns in data units, the others fixed, unnormalised:
    :math:`F_0(T(x)) + \sum_i \log\lvert u_i'(x_i)\rvert` over the missing columns. A picklable callable over ``(n, m)``.

    Where given columns hold labels, the mean over places ``given`` ``(N, d)`` in their cells, each with its Jacobian.
    """

    def __init__(
        self, model: EnergySequence, transform: DataTransform, given: Tensor, is_missing: Tensor, in_cell: Tensor
    ) -> None:
        self.model, self.transform, self.given, self.is_missing = model, transform, given, is_missing
        self.counted = (is_missing | in_cell).nonzero().flatten()

    def __call__(self, x: Tensor) -> Tensor:
        place, count = self.is_missing.nonzero().flatten(), len(self.given)
        full = self.given.to(x.dtype).repeat(len(x), 1).index_copy(1, place, x.repeat_interleave(count, 0))
        slope = self.transform.column_log_jacobian(full)[:, self.counted].sum(1)
        values = self.model.log_density(self.transform(full), 0) + slope
        values = torch.where(self.transform.bounds.contains(full), values, -math.inf)
        return values if count == 1 else values.reshape(len(x), count).logsumexp(1) - math.log(count)

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
    """Conditional draws of whole rows ``(n, d)`` in data units, the result in model space.

    A given label is its whole cell: every replicate stands at its own place in it, weighed by the Jacobian there.
    """
    middle = density.pool.double().reshape(len(density.pool), -1).median(0).values
    filled = torch.where(is_missing, middle, rows.double())
    u = density.transform(filled)
    refuse_outside(density, u, rows, is_missing)
    places, in_cell = cell_positions(density, filled, is_missing, settings.num_replicates, generator)
    slopes = density.transform.column_log_jacobian(places)  # refuses a transform that mixes columns
    offsets = (slopes * in_cell[:, None]).sum(-1)
    pool = density.transform(density.pool.double().reshape(len(density.pool), -1))
    _warn_of_far(density, u, rows, is_missing, pool)
    plan = plan_conditional(density.model, pool, u, is_missing, settings=settings, generator=generator)
    return sample_conditional(
        density.model,
        density.transform(places),
        is_missing,
        num_draws,
        plan=plan,
        settings=settings,
        log_offsets=offsets,
        generator=generator,
    )


def _warn_of_far(density: Density, u: Tensor, rows: Tensor, is_missing: Tensor, pool: Tensor) -> None:
    """Warn of observed values further out than twice what any draw of the density reaches."""
    middle = pool.median(0).values
    reach = (pool - middle).abs().amax(0)
    far = (((u - middle).abs() > 2 * reach) & ~is_missing).nonzero()
    if len(far):
        row, column = far[0].tolist()
        warnings.warn(
            f"{len(far)} observed values lie far outside the data, the first {float(rows[row, column]):g} in row {row}, "
            f"column {density.columns[column].name!r}: what is drawn given them is extrapolation",
            DataWarning,
            stacklevel=4,
        )


def refuse_outside(density: Density, u: Tensor, rows: Tensor, is_missing: Tensor) -> None:
    """Raise a DataError for the first observed value that has no place in model space."""
    bad = (~u.isfinite() & ~is_missing).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"row {row}: {float(rows[row, column]):g} of column {density.columns[column].name!r} lies outside the bounds "
            "that the density was fitted with, so there is nothing to condition on"
        )


def observed_log_density(density: Density, rows: Tensor, result: ConditionalResult) -> tuple[Tensor, Tensor]:
    """log density of the observed cells of rows ``(n, d)`` with NaN, and its error without that of log Z, each ``(n,)``.

    A label counts with its cell's mean density, which for cells of width 1 is its probability.
    """
    is_missing = rows.isnan()
    middle = density.pool.double().reshape(len(density.pool), -1).median(0).values
    slopes = density.transform.column_log_jacobian(torch.where(is_missing, middle, rows))
    is_point = ~is_missing & ~torch.tensor([column.is_label for column in density.columns])
    return result.log_z - density.estimate.log_z + (slopes * is_point).sum(1), result.standard_error


def to_data(density: Density, u: Tensor) -> Tensor:
    """Model-space rows ``(*, d)`` in data units, float64."""
    with torch.no_grad():
        return density.transform.inv(u.double().cpu())


def condition(
    density: Density,
    given: Mapping[int | str, float | str] | Tensor,
    *,
    observed: Tensor | None,
    normalize: bool,
    seed: int | None,
    settings: ConditionalSettings | None,
) -> EnergyDistribution:
    """See :meth:`drl_density.density.Density.condition`."""
    row, is_missing = read_given(density, given, observed)
    places, in_cell = cell_nodes(density, row, is_missing)
    if settings is None:
        settings = ConditionalSettings(num_particles=256, num_replicates=8 if bool(in_cell.any()) else 2)
    support = _support(density, is_missing)
    target = EnergyDistribution(
        SliceLogDensity(density.model, density.transform, places, is_missing, in_cell),
        (int(is_missing.sum()),),
        support=support,
        sampler=SliceSampler(density, row, is_missing, settings),
        initial=_Zeros(int(is_missing.sum())),
        is_integrable=density.model.is_integrable,
        largest_power=largest_power(density.model, density.transform),
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
    return judge_estimate(
        result.log_weights[0], bias="lower", path=PathSummary(least_ess_share=float(result.least_ess[0]))
    )


def read_given(
    density: Density, given: Mapping[int | str, float | str] | Tensor, observed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(row with NaN in missing places, mask of missing columns), flat; ``observed`` is a mask over a given point.

    Raises:
        DataError: unknown columns, values that are not finite, everything or nothing given.
    """
    count = torch.Size(density.event_shape).numel()
    if isinstance(given, Mapping):
        if observed is not None:
            raise DataError("a mask of observed values goes with a whole point, not with named values")
        row = torch.full((count,), math.nan, dtype=torch.float64)
        for key, value in given.items():
            index = column_index(density, key)
            row[index] = _value_of(density, index, value)
    else:
        row = torch.as_tensor(given, dtype=torch.float64, device="cpu").flatten()
        if observed is not None:
            if observed.shape != torch.as_tensor(given).shape or observed.dtype != torch.bool:
                raise DataError(
                    f"expected a boolean mask of shape {tuple(torch.as_tensor(given).shape)}, true where values are "
                    f"observed, got {observed.dtype} of shape {tuple(observed.shape)}"
                )
            unseen = observed.flatten() & row.isnan()
            if bool(unseen.any()):
                raise DataError(f"{int(unseen.sum())} values marked as observed are NaN")
            row = torch.where(observed.flatten(), row, math.nan)
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


def _value_of(density: Density, index: int, value: float | str) -> float:
    """A number as it is, a label as its code."""
    column = density.columns[index]
    if isinstance(value, str):
        if value not in (column.categories or ()):
            known = ", ".join(column.categories) if column.categories else "numbers"
            raise DataError(f"column {column.name!r} has no label {value!r}; it holds {known}")
        return float(column.categories.index(value))
    if not math.isfinite(value):
        raise DataError(f"column {column.name!r}: expected a finite number to condition on, got {value}")
    return float(value)


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
        """log density of rows ``(n, len(columns))`` in data units, nats, ``(n,)``; it errs low by Jensen's inequality.

        Args:
            x: values of the columns.
        """
        return self.log_prob_and_error(x)[0]

    def log_prob_and_error(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log density and its standard error, log Z's included, each ``(n,)``.

        Args:
            x: rows ``(n, len(columns))`` in data units.

        Raises:
            DataError: rows of another width, or values outside the fitted bounds.
        """
        x = torch.as_tensor(x, dtype=torch.float64, device="cpu")
        if x.ndim != 2 or x.shape[1] != len(self.columns):
            raise DataError(f"expected rows of {len(self.columns)} columns, got shape {tuple(x.shape)}")
        if bool(x.isnan().any()):
            raise DataError(
                f"row {int(x.isnan().any(1).nonzero()[0])} holds NaN; leave that column out of the marginal"
            )
        place = torch.tensor(self.columns)
        rows = torch.full((len(x), len(self.density.columns)), math.nan, dtype=torch.float64)
        rows[:, place] = x
        generator = torch.Generator().manual_seed(self.seed)
        result = sample_rows(self.density, rows, rows.isnan(), num_draws=2, settings=self.settings, generator=generator)
        value, error = observed_log_density(self.density, rows, result)
        log_z_error = torch.tensor(self.density.estimate.standard_error, dtype=torch.float64)
        return value, torch.hypot(error, log_z_error)


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


def _support(density: Density, is_missing: Tensor) -> constraints.Constraint | None:
    return bounded_support(*density.transform.bounds.expand(len(is_missing)).select(is_missing))
