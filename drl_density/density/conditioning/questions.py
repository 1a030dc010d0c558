"""Questions about some columns given others, as methods of a fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from drl_density.autograd import methods_outside_inference_mode
from drl_density.datasets.large.dask_table import is_dask_frame
from drl_density.datasets.large.partitions import map_partitions
from drl_density.density.conditioning.condition import condition
from drl_density.density.conditioning.impute import Imputation, completed_frame, impute
from drl_density.density.conditioning.marginal import MarginalDensity, marginal
from drl_density.density.conditioning.predict import QUANTILES, predict
from drl_density.density.conditioning.prediction import Prediction
from drl_density.density.fitted import FittedModel
from drl_density.density.seeds import random_generator
from drl_density.density.tables import PlainRows, index_of
from drl_density.distributions import EnergyDistribution
from drl_density.errors import DataError
from drl_density.inverse_problems import ConditionalSettings

if TYPE_CHECKING:
    import pandas as pd


@methods_outside_inference_mode
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ColumnQuestions(FittedModel):
    """A fit with the questions about some of its columns given others; it has the attributes of a fit."""

    def condition(
        self,
        given: Mapping[int | str, float | str] | Any,
        *,
        observed: Any = None,
        normalize: bool = False,
        settings: ConditionalSettings | None = None,
        seed: int | None = None,
    ) -> EnergyDistribution:
        """The distribution of the other columns given some of them, in data units; its vectors keep the columns' order.

        Its ``sample`` runs sequential Monte Carlo down the noise levels, which finds separated modes with their weights.
        It ends with adjusted chains, whose R-hat is in ``last_result.stats``.

        Args:
            given: ``{index or name: value or label}``; a pandas Series or a frame of one row; or a point with NaN for
                missing values, such as a masked image, and with codes for labels. A label (yes/no or text column) stands
                for its whole cell, a number for itself.
            observed: boolean mask of a complete point, true for the values to condition on.
            normalize: whether to estimate the normaliser, so that ``log_prob`` is the conditional density. Its error and
                verdict are then in the distribution's ``estimate``.
            seed: seed of that estimate. Draws of the distribution follow Pyro's seed, or the generator given to its ``run``.

        Raises:
            DataError: unknown columns, values out of bounds, everything or nothing given, a transform that mixes columns, or
                a seed without ``normalize``, on which it would have no effect.
        """
        if seed is not None and not normalize:
            raise DataError(
                f"seed={seed!r} is for the normaliser's estimate, which normalize=True asks for. Draws of the distribution "
                "follow pyro.set_rng_seed, or the generator given to its run(...)"
            )
        return condition(
            self, given, observed=observed, normalize=normalize, settings=settings, generator=random_generator(seed)
        )

    def marginal(
        self,
        columns: Sequence[int | str] | int | str,
        *,
        settings: ConditionalSettings | None = None,
        seed: int | None = None,
    ) -> MarginalDensity:
        """The density of some columns alone; the others are integrated out for every row.

        Args:
            columns: names or indices of the columns to keep, in order, or one of them.

        Raises:
            DataError: unknown or repeated columns, none, or all of them.
        """
        return marginal(self, columns, settings=settings, seed=seed)

    @overload
    def impute(
        self,
        rows: pd.DataFrame,
        *,
        num_samples: int = ...,
        settings: ConditionalSettings | None = ...,
        seed: int | None = ...,
    ) -> pd.DataFrame: ...

    @overload
    def impute(
        self,
        rows: PlainRows,
        *,
        num_samples: int = ...,
        settings: ConditionalSettings | None = ...,
        seed: int | None = ...,
    ) -> Imputation: ...

    def impute(
        self,
        rows: Any,
        *,
        num_samples: int = 20,
        settings: ConditionalSettings | None = None,
        seed: int | None = None,
    ) -> Any:
        """Fill missing values by draws given each row's own observed values.

        Args:
            rows: rows ``(n, *event)`` in data units, NaN for missing values, or a frame.
            num_samples: number of completions of each row.

        Returns:
            A record of tensors. For a frame a pandas DataFrame of all completions, with "imputation" as the first level of
            its index, and the frame's own columns, types and observed cells. Its ``attrs`` count ``filled_cells`` and
            ``doubtful_rows``; ``impute(density.rows(frame, missing="keep"))`` gives the record with all figures. A Dask
            DataFrame gives a lazy one, where "imputation" is a column, or is left out for one completion.

        Raises:
            DataError: fewer than 1 completion, rows of another shape, infinite values, or observed values out of bounds.
        """
        if is_dask_frame(rows):
            options = {"num_samples": num_samples, "settings": settings, "seed": seed}
            return map_partitions(self, "impute", rows, options=options)
        found = impute(self, rows, num_samples=num_samples, settings=settings, generator=random_generator(seed))
        return found if index_of(rows) is None else completed_frame(self, rows, found)

    @overload
    def predict(
        self,
        rows: pd.DataFrame,
        column: int | str,
        *,
        quantiles: Sequence[float] = ...,
        settings: ConditionalSettings | None = ...,
        seed: int | None = ...,
    ) -> pd.DataFrame: ...

    @overload
    def predict(
        self,
        rows: PlainRows,
        column: int | str,
        *,
        quantiles: Sequence[float] = ...,
        settings: ConditionalSettings | None = ...,
        seed: int | None = ...,
    ) -> Prediction: ...

    def predict(
        self,
        rows: Any,
        column: int | str,
        *,
        quantiles: Sequence[float] = QUANTILES,
        settings: ConditionalSettings | None = None,
        seed: int | None = None,
    ) -> Any:
        """One column given the others, row by row: mean, quantiles, label probabilities, log density of a given value.

        Args:
            rows: rows ``(n, *event)`` in data units, NaN for missing values, or a frame; the predicted column may be
                missing too, and absent from a frame.
            column: name or index of the column to predict.
            quantiles: levels in (0, 1) of the quantiles to compute.

        Returns:
            A record of tensors; for a frame a pandas DataFrame with its index, see
            :meth:`~drl_density.density.conditioning.prediction.Prediction.to_frame`.

        Raises:
            DataError: an unknown column, rows of another shape, nothing given, values out of bounds, or unknown labels.
            NumericalError: given values so far outside the data that the density of the column does not fall off.
        """
        found = predict(self, rows, column, quantiles=quantiles, settings=settings, generator=random_generator(seed))
        index = index_of(rows)
        return found if index is None else found.to_frame(index=index)
