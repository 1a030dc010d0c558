"""The density of some columns alone, the others integrated out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from drl_density.autograd import methods_outside_inference_mode
from drl_density.density.conditioning.rows import observed_log_density, sample_in_blocks
from drl_density.density.fitted import FittedModel
from drl_density.density.seeds import random_generator
from drl_density.density.tables import PlainRows, Points, as_series, read_points
from drl_density.errors import DataError
from drl_density.inverse_problems import ConditionalSettings
from drl_density.records.given import given_or_default

if TYPE_CHECKING:
    import pandas as pd


@methods_outside_inference_mode
@dataclass(frozen=True)
class MarginalDensity:
    """The density of some columns, as the ratio of two normalisers that are estimated for every row.

    Attributes:
        density: the density of all columns.
        columns: indices of the kept columns, in order.
        settings: sizes of each row's integral.
        seed: seed of the integrals; with None, every call draws fresh random numbers.
    """

    density: FittedModel
    columns: tuple[int, ...]
    settings: ConditionalSettings
    seed: int | None = None

    def __repr__(self) -> str:
        names = ", ".join(self.density.columns[index].name for index in self.columns)
        return f"{type(self).__name__}(columns={names}, of {self.density.provenance.name!r})"

    @overload
    def log_prob(self, x: pd.DataFrame | pd.Series) -> pd.Series: ...

    @overload
    def log_prob(self, x: PlainRows) -> Tensor: ...

    def log_prob(self, x: Any) -> Any:
        """Log density of rows ``(*, len(columns))`` in data units, nats, ``(*,)``; it errs low by Jensen's inequality.

        Args:
            x: values of the kept columns, with codes for labels; or a frame that has them, with labels; or, for one column,
                a pandas Series.

        Returns:
            A tensor; for a frame a pandas Series with its index.

        Raises:
            DataError: rows of another width, NaN, unknown labels, or values outside the fitted bounds.
        """
        value, _, points = self._estimates(x)
        return value.reshape(points.batch) if points.index is None else as_series(value, points.index, "log_density")

    def log_prob_and_error(self, x: Any) -> tuple[Tensor, Tensor]:
        """Log density and its standard error, which includes that of log Z, each of the batch shape of ``x``.

        Args:
            x: values of the kept columns ``(*, len(columns))`` in data units, or a frame that has them.

        Raises:
            DataError: rows of another width, NaN, unknown labels, or values outside the fitted bounds.
        """
        value, error, points = self._estimates(x)
        return value.reshape(points.batch), error.reshape(points.batch)

    def _estimates(self, x: Any) -> tuple[Tensor, Tensor, Points]:
        """(log density ``(n,)``, its standard error ``(n,)``, the rows as they were read)."""
        kept = [self.density.columns[index] for index in self.columns]
        points = read_points(x, kept, (len(kept),))
        values = points.rows
        if not len(values):
            return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64), points
        if bool(values.isnan().any()):
            raise DataError(
                f"row {int(values.isnan().any(1).nonzero()[0])} holds NaN; leave that column out of the marginal"
            )
        rows = torch.full((len(values), self.density.num_features), math.nan, dtype=torch.float64)
        rows[:, torch.tensor(self.columns)] = values
        generator = random_generator(self.seed)
        blocks = sample_in_blocks(
            self.density,
            rows,
            rows.isnan(),
            torch.arange(len(rows)),
            num_samples=2,
            settings=self.settings,
            generator=generator,
        )
        figures = torch.zeros(2, len(rows), dtype=torch.float64)
        for some, result in blocks:
            figures[:, some] = torch.stack(observed_log_density(self.density, rows[some], result))
        value, error = figures
        log_z_error = torch.tensor(self.density.estimate.standard_error, dtype=torch.float64)
        return value, torch.hypot(error, log_z_error), points


def marginal(
    density: FittedModel,
    columns: Sequence[int | str] | int | str,
    *,
    settings: ConditionalSettings | None = None,
    seed: int | None = None,
) -> MarginalDensity:
    """See :meth:`drl_density.density.Density.marginal`."""
    keys = [columns] if isinstance(columns, str | int) else list(columns)
    chosen = tuple(density.column_index(key) for key in keys)
    if density.num_features == 1:
        raise DataError(
            f"{density.columns[0].name!r} is the only column of this density, which is its own marginal: use the density"
        )
    if not chosen or len(set(chosen)) < len(chosen) or len(chosen) >= len(density.columns):
        raise DataError(f"expected some but not all of the {len(density.columns)} columns, each once, got {keys}")
    usual = ConditionalSettings(num_replicates=8, num_final_steps=8)
    settings = given_or_default(settings, ConditionalSettings, default=usual)
    return MarginalDensity(density, chosen, settings, seed)
