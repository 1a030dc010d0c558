"""The values of a fit: a sequence of energy-based models, the map from data space, and how both came about.

:class:`FittedModel` converts between data units and model space, scores rows and draws. Every question about a fit
takes one; :class:`~drl_density.density.density.Density` puts the questions on top as methods.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, overload

import torch
from torch import Tensor

from drl_density.autograd import methods_outside_inference_mode
from drl_density.datasets import Column
from drl_density.datasets.large.dask_table import is_dask_frame
from drl_density.datasets.large.partitions import map_partitions, sample_partitions
from drl_density.datasets.tables.coding import Codes
from drl_density.density.data_units import (
    DataLogDensity,
    PooledSampler,
    StartAt,
    ToData,
    draws_shape,
    freeze,
    in_passes,
    on_support,
    reported_noise,
    to_data_units,
)
from drl_density.density.integrability import largest_power
from drl_density.density.provenance import Baselines, Provenance
from drl_density.density.reference import ReferenceScores
from drl_density.density.seeds import random_generator
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.tables import HasColumns, PlainRows, Scores, as_columns, as_series
from drl_density.devices import find_device
from drl_density.distributions import EnergyDistribution, FittedSupport, SampleResult
from drl_density.errors import DataError, UnreliableEstimateWarning, Verdict, see
from drl_density.model import EnergySequence
from drl_density.records.intervals import normal_interval
from drl_density.samplers import LevelZeroPlan, LevelZeroSampler
from drl_density.shapes import is_integer
from drl_density.transforms import Bounds, DataTransform, Dequantization
from drl_density.weights import LogPartitionEstimate

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

GRID_TOLERANCE = 1e-6
"""Share of a column's width by which a value may miss the rounding grid, above float32 rounding."""
MOST_DRAWS = 16_384
"""Draws of one block, which bounds the memory of their chains."""


@methods_outside_inference_mode
@dataclass(frozen=True, eq=False, repr=False)
class FittedModel(HasColumns):
    """The values of a fit; two fits are equal only when they are the same object.

    Attributes:
        model: the :class:`~drl_density.EnergySequence` in model space; its level 0 is the reported density.
        transform: torch ``Transform`` from flat data rows ``(n, d)`` to model space.
        estimate: log Z of level 0 in model space, with its error and verdict.
        event_shape: shape of one data point.
        columns: name, kind, rounding width and bounds of each column.
        settings: resolved settings of the fit.
        plan: how level 0 is drawn from, decided at the end of the fit.
        pool: stored draws in data units ``(n, d)``, float64.
        baselines: validation figures of the model and of two simple references.
        history: training history over ``step`` and ``level``.
        provenance: data, seed and choices that led to this fit.
        reference: scores of the fit's test rows, which p-values rank against; None where there are fewer than 20.
    """

    model: EnergySequence
    transform: DataTransform
    estimate: LogPartitionEstimate
    event_shape: tuple[int, ...]
    columns: tuple[Column, ...]
    settings: FitSettings
    plan: LevelZeroPlan
    pool: Tensor
    baselines: Baselines
    history: xr.Dataset
    provenance: Provenance = field(default_factory=Provenance)
    reference: ReferenceScores | None = None

    # --- columns

    @property
    def bounds(self) -> Bounds:
        """The open box outside which the density is zero, lower and upper ends of every column in data units, ``(d,)``."""
        return self.transform.bounds.expand(self.num_features)

    @property
    def middle(self) -> Tensor:
        """Median of every column over the stored draws ``(d,)``, which is used in place of missing values."""
        return self.pool.double().median(0).values

    # --- model space

    def to_model(self, rows: Tensor) -> Tensor:
        """Rows ``(*, d)`` in data units to model space, float64 on the CPU.

        Args:
            rows: flat rows, as :meth:`rows` gives them.
        """
        return in_passes(self.transform, rows)

    def to_states(self, rows: Tensor) -> Tensor:
        """Rows ``(*, d)`` in data units to model space, in the model's own precision and on its device.

        Args:
            rows: flat rows, as :meth:`rows` gives them.
        """
        return self.to_model(rows).to(self.model.device, self.model.dtype)

    def to_data(self, u: Tensor) -> Tensor:
        """Model-space states ``(*, d)`` to data units, float64 on the CPU, flat.

        Args:
            u: states of any floating-point type on any device.
        """
        return to_data_units(self.transform, u)

    def to_points(self, u: Tensor) -> Tensor:
        """Model-space states ``(n, d)`` to data points ``(n, *event)`` on the support of each column, float64 on the CPU.

        Args:
            u: states of any floating-point type on any device.
        """
        return on_support(self.columns, self.to_data(u), self.bounds).reshape(len(u), *self.event_shape)

    # --- density and draws

    @overload
    def log_prob(self, x: pd.DataFrame) -> pd.Series: ...

    @overload
    def log_prob(self, x: PlainRows) -> Tensor: ...

    @overload
    def log_prob(self, x: Any) -> Any: ...

    def log_prob(self, x: Any) -> Any:
        r"""Normalised log density in data units, in nats and float64, one number per row:

        .. math:: \log p(x) = F_0(T(x)) + \log\lvert\det J_T(x)\rvert - \log \hat Z

        It is minus infinity outside declared bounds and closed supports, and NaN for a row with NaN. Here
        :math:`\log\hat Z` is ``estimate``, the quick annealing run at the end of the fit. That run errs low, so these values
        err high. For a figure to quote use :meth:`~drl_density.Density.evaluate`, which estimates log Z from both sides and
        gives an interval and a verdict.

        Args:
            x: rows ``(*, *event)`` or flat ``(*, d)``, with codes for labels, or a frame, with labels; one row gives a
                number.

        Returns:
            A tensor; for a frame a pandas Series with its index.

        Raises:
            DataError: rows of another shape, unknown labels or codes, or infinite values.
        """
        points = self.points(x)
        values = self.log_density_of(points.rows, codes="exact")
        return values.reshape(points.batch) if points.index is None else as_series(values, points.index, "log_density")

    def log_density_of(self, rows: Tensor, *, codes: Codes = "cells") -> Tensor:
        """Normalised log density ``(n,)`` of a table ``(n, d)`` in data units, nats, float64, without checks of the rows.

        Args:
            rows: flat rows, as :meth:`rows` gives them or dequantised.
            codes: "cells" for dequantised values; "exact" where the density is 0 between those of a closed support.
        """
        rows = rows.to("cpu", torch.float64)
        values = DataLogDensity(self.model, self.transform).in_passes(rows) - self.estimate.log_z
        permitted = self.are_permitted(rows) if codes == "exact" else torch.ones(len(rows), dtype=torch.bool)
        return values.masked_fill(~permitted, -math.inf).masked_fill(rows.isnan().any(1), math.nan)

    @overload
    def score(self, rows: pd.DataFrame, *, probability: float = ...) -> pd.DataFrame: ...

    @overload
    def score(self, rows: PlainRows, *, probability: float = ...) -> Scores: ...

    @overload
    def score(self, rows: Any, *, probability: float = ...) -> Any: ...

    def score(self, rows: Any, *, probability: float = 0.95) -> Any:
        """Log density of rows as by :meth:`log_prob`, with its interval by the standard error of log Z.

        Args:
            rows: rows ``(*, *event)`` or flat ``(*, d)``, or a frame.
            probability: chance in (0, 1) that an interval covers the truth.

        Returns:
            A record of tensors; for a frame a pandas DataFrame with its index and the columns ``log_density``,
            ``log_density_lower`` and ``log_density_upper``. A Dask DataFrame gives a lazy one.

        Raises:
            DataError: rows of another shape, unknown labels or codes, or infinite values.
        """
        if is_dask_frame(rows):
            return map_partitions(self, "score", rows, options={"probability": probability})
        points = self.points(rows)
        values = self.log_density_of(points.rows, codes="exact").reshape(points.batch)
        found = Scores(values, *normal_interval(values, self.estimate.standard_error, probability))
        return found if points.index is None else as_columns(vars(found), points.index)

    def sample(self, num_samples: int | Sequence[int] = (), *, seed: int | None = None) -> Tensor:
        """Fresh draws in data units, each value on the support of its column.

        ``plan.describe()`` names the sampler: importance resampling from the base for a bounded network, with chains after
        it where few draws of the base are effective, and the progressive sampler elsewhere.

        Args:
            num_samples: number of draws, or a shape such as ``(64,)``.

        Returns:
            Draws ``(num_samples, *event)`` or ``(*shape, *event)``, float64.

        Raises:
            DataError: a number of draws that is negative or no integer.
        """
        shape, generator = draws_shape(num_samples), random_generator(seed)
        rows = torch.empty(math.prod(shape), self.num_features, dtype=torch.float64)
        # Statistics of the chains are discarded after each block.
        for some in rows.split(MOST_DRAWS):
            draws = fresh_draws(self, len(some), generator=generator).draws
            some.copy_(on_support(self.columns, draws.reshape(some.shape), self.bounds))
        return rows.reshape(*shape, *self.event_shape)

    @overload
    def sample_frame(self, num_samples: int, *, num_partitions: None = ..., seed: int | None = ...) -> pd.DataFrame: ...

    @overload
    def sample_frame(self, num_samples: int, *, num_partitions: int, seed: int | None = ...) -> Any: ...

    def sample_frame(self, num_samples: int, *, num_partitions: int | None = None, seed: int | None = None) -> Any:
        """Fresh draws as by :meth:`sample`, as a pandas DataFrame with the columns' names, types and labels.

        Args:
            num_samples: number of rows to draw.
            num_partitions: number of partitions of a lazy Dask DataFrame; None for a pandas DataFrame.

        Raises:
            DataError: a number of draws that is negative or no integer, or partitions without Dask.
        """
        if not is_integer(num_samples) or num_samples < 0:
            raise DataError(f"num_samples must be an integer of at least 0, got {num_samples!r}")
        if num_partitions is not None:
            return sample_partitions(self, num_samples, num_partitions, seed=seed)
        return self.to_frame(self.sample(num_samples, seed=seed).reshape(num_samples, self.num_features))

    def run(self, num_samples: int | Sequence[int] = (), *, seed: int | None = None) -> SampleResult:
        """Fresh draws as by :meth:`sample`, with the statistics of their chains.

        Args:
            num_samples: number of draws, or a shape such as ``(64,)``.

        Raises:
            DataError: a number of draws that is negative or no integer.
        """
        shape = draws_shape(num_samples)
        found = fresh_draws(self, math.prod(shape), generator=random_generator(seed))
        rows = on_support(self.columns, found.draws.reshape(-1, self.num_features), self.bounds)
        return SampleResult(rows.reshape(*shape, *self.event_shape), found.stats, found.sampler)

    def distribution(self, *, dtype: torch.dtype = torch.float64) -> EnergyDistribution:
        """The density in data units as a Pyro distribution that holds a frozen copy of the weights.

        ``log_prob`` is normalised by the estimate made at the end of the fit (``normalization`` is "estimated"). Requests
        of up to 16 draws start at stored draws and move them by short adjusted chains, which takes milliseconds; larger
        ones are drawn as by :meth:`sample`. In a Pyro model, kernels and guides move in model space. Columns with labels or
        rounded numbers are dequantised: a value anywhere in a cell stands for its label or number.

        Args:
            dtype: type of the draws, and so of the site in a Pyro model.
        """
        if not self.estimate.is_reliable:
            where = see("Questions and answers", "The verdict is not reliable. What now?")
            text = f"log Z of this density is {self.estimate.verdict}: {self.estimate.advice}; {where}"
            warnings.warn(text, UnreliableEstimateWarning, stacklevel=2)
        model, event_shape = freeze(copy.deepcopy(self.model)), torch.Size(self.event_shape)
        sampler = LevelZeroSampler(model, self.plan, ToData(self.transform, event_shape))
        target = EnergyDistribution(
            DataLogDensity(model, self.transform),
            event_shape,
            support=FittedSupport(self.transform, event_shape),
            sampler=PooledSampler(self.to_states(self.pool), sampler, self.bounds),
            initial=StartAt(self.bounds.nearest_inside(self.middle.to(dtype)).reshape(event_shape)),
            is_integrable=model.is_integrable,
            largest_power=largest_power(model, self.transform),
        )
        return target.normalize(self.estimate)

    def to(self, device: str | torch.device | None) -> Self:
        """This fit with a copy of its model on ``device``; the fit itself if that is None or already its device.

        The model and model-space states live on the device. Rows in data units are accepted from any device, and every
        result lives on the CPU, where likelihoods for ``posterior`` are evaluated too. A CPU ``generator`` gives the same
        random numbers on every device.

        Args:
            device: such as "cuda", "cuda:1" or "cpu".

        Raises:
            ValueError: a device that this machine does not have.

        >>> import drl_density as drl
        >>> small = drl.TrainingSettings(num_steps=5, batch_size=32)
        >>> network, schedule = drl.MLPNetwork(width=8), drl.LogSpacedSchedule(num_levels=1)
        >>> parts = {"network": network, "schedule": schedule, "training": small}
        >>> parts |= {"base": "gaussian", "transform": "standardize", "num_pool_draws": 20, "num_particles": 16}
        >>> rows, settings = torch.randn(100, 2), drl.FitSettings(**parts, selection="last")
        >>> density = drl.fit(rows, settings=settings, progress=False, device="cpu")
        >>> density.to("cpu").model.device
        device(type='cpu')
        """
        if device is None or (place := find_device(device)) == self.model.device:
            return self
        return dataclasses.replace(self, model=copy.deepcopy(self.model).to(place))

    # --- in words

    @property
    def remarks(self) -> tuple[str, ...]:
        """Faults of the fit in words: it kept its base untrained, or is below its floor; empty for a sound fit."""
        found = []
        if self.provenance.untrained_remark:
            found.append(self.provenance.untrained_remark)
        if not self.baselines.is_above_floor:
            found.append("the model is below its floor: a Gaussian or independent columns do better on validation rows")
        return tuple(found)

    def summary(self) -> str:
        """A few lines to read: the likelihood with its error and verdict, and the scores of simple models."""
        base, estimate = self.baselines, self.estimate
        reason = "" if estimate.verdict is Verdict.RELIABLE else f": {estimate.advice}; evaluate() judges it with more draws"
        lines = [
            f"validation log-likelihood {base.model:.3f} nats/row "
            f"(Gaussian {base.gaussian:.3f}, independent marginals {base.independent:.3f})",
            *self.provenance.stage_lines,
            f"log Z {estimate.log_z:.4f} +- {estimate.standard_error:.4f} (verdict on log Z: {estimate.verdict}{reason})",
            f"draws: {self.plan.describe()}",
            f"reported level: noise {reported_noise(self.model):.3g} in model space",
        ]
        if not base.is_above_floor:
            lines.append(f"FAILURE: the model is below its floor; {see('When a fit fails')}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        names = [column.name for column in self.columns]
        shown = ", ".join(names[:4]) + (f", ... ({len(names)})" if len(names) > 4 else "")
        return (
            f"{type(self).__name__}({self.provenance.name!r}, event_shape={self.event_shape}, columns={shown}, "
            f"validation log-likelihood {self.baselines.model:.3f} nats/row"
            f"{'' if self.baselines.is_above_floor else ', BELOW ITS FLOOR'}, log Z {self.estimate.verdict})"
        )


def dequantized_rows(
    density: FittedModel, rows: Any, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Rows ``(n, d)`` with uniform noise on every rounded column, and the widths used ``(d,)``.

    A column gets noise only when every value lies on its rounding grid, so that rows which carry noise already, or
    are draws, stay as they are.

    Args:
        density: the fit whose columns are rounded or not.
        rows: complete rows ``(n, *event)`` in data units.
        generator: source of the noise; torch's global generator when None.

    Raises:
        DataError: rows of another shape, or incomplete ones.
    """
    flat, widths = density.rows(rows, codes="cells"), density.widths
    misses = (flat - on_support(density.columns, flat)).abs()
    is_clean = (misses <= GRID_TOLERANCE * widths).all(0)
    widths = torch.where(is_clean, widths, torch.zeros_like(widths))
    return Dequantization(widths)(flat, generator=generator), widths


def fresh_draws(density: FittedModel, num_samples: int, *, generator: torch.Generator | None = None) -> SampleResult:
    """Draws ``(num_samples, *event)`` as by :meth:`FittedModel.sample`, for callers that hold a generator."""
    like = torch.empty((num_samples, *density.event_shape), dtype=torch.float64)
    if not num_samples:
        return SampleResult(like, sampler=density.plan.method)
    sampler = LevelZeroSampler(density.model, density.plan, ToData(density.transform, torch.Size(density.event_shape)))
    return sampler(density.log_density_of, like, generator)
