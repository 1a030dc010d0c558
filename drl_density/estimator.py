"""A scikit-learn estimator around :func:`drl_density.fit`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from drl_density.autograd import methods_outside_inference_mode
from drl_density.datasets import Split, load_dataset
from drl_density.datasets.tables.cells import array_numbers, plain_array
from drl_density.density import FitSettings, fit
from drl_density.errors import UNUSABLE_VERDICTS, DataError, DataWarning, NumericalError, UnreliableEstimateWarning


@methods_outside_inference_mode
class DRLDensity(DensityMixin, BaseEstimator):
    """Density estimator with scikit-learn's interface; ``density_`` is the whole :class:`Density`.

    It passes all of scikit-learn's estimator checks without exception.

    Args:
        settings: Settings of the fit; None takes the automatic choices.
        validation: Share of the rows held out for early stopping and selection.
        max_minutes: Time to aim at for the fit in minutes, or None.
        random_state: Seed, ``numpy.random.RandomState``, or None for a fresh seed.
        accept_unreliable: Lets ``score_samples`` return scores although the verdict on log Z is "unreliable", "unknown" or
            "improper". A "doubtful" verdict is accepted with a warning, since its interval covers the doubt.
        device: Device where the model computes; the CPU when None.

    Attributes:
        density_: Fitted :class:`Density` with all its methods.
        log_z_: Log normaliser in model space with its standard error.
        n_features_in_: Number of columns of the training rows.

    >>> import drl_density as drl
    >>> settings = FitSettings(
    ...     network=drl.MLPNetwork(width=8),
    ...     schedule=drl.LogSpacedSchedule(num_levels=2),
    ...     base="gaussian",
    ...     selection="last",
    ...     transform="standardize",
    ...     num_pool_draws=20,
    ...     num_particles=16,
    ...     training=drl.TrainingSettings(num_steps=5),
    ... )
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> DRLDensity(settings=settings, random_state=0).fit(x).score_samples(x[:3]).shape
    (3,)
    """

    def __init__(
        self,
        settings: FitSettings | None = None,
        *,
        validation: float = 0.15,
        max_minutes: float | None = None,
        random_state: Any = None,
        accept_unreliable: bool = False,
        device: Any = None,
    ) -> None:
        self.settings = settings
        self.validation = validation
        self.max_minutes = max_minutes
        self.random_state = random_state
        self.accept_unreliable = accept_unreliable
        self.device = device

    def fit(self, X: Any, y: Any = None) -> DRLDensity:
        """Fit to rows.

        Args:
            X: Rows of shape ``(n, d)``.
            y: Ignored; scikit-learn's pipelines pass it.

        Raises:
            ValueError: Rows that cannot be used; the message names the column.
        """
        rows = validate_data(self, _with_nan(X), dtype=np.float64, ensure_min_samples=2)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            data = load_dataset(rows, split=Split(validation=self.validation, test=0.0, seed=seed))
        self.density_ = fit(
            data,
            seed=seed,
            settings=self.settings,
            max_minutes=self.max_minutes,
            progress=False,
            device=self.device,
        )
        self.log_z_ = (self.density_.estimate.log_z, self.density_.estimate.standard_error)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density of each row in nats, ``(n,)``.

        Args:
            X: Rows of shape ``(n, d)``.

        Raises:
            NumericalError: The verdict on log Z is "unreliable", "unknown" or "improper", and ``accept_unreliable`` is not
                set.

        Warns:
            UnreliableEstimateWarning: The verdict is "doubtful", or any other but "reliable" that is accepted.
        """
        check_is_fitted(self)
        rows = validate_data(self, _with_nan(X), dtype=np.float64, reset=False)
        estimate = self.density_.estimate
        if estimate.verdict in UNUSABLE_VERDICTS and not self.accept_unreliable:
            raise NumericalError(
                f"log Z of this fit is {estimate.verdict}: {estimate.advice}; fit longer, or set accept_unreliable=True"
            )
        if not estimate.is_reliable:
            warnings.warn(
                f"log Z of this fit is {estimate.verdict}: {estimate.advice}", UnreliableEstimateWarning, stacklevel=2
            )
        return self.density_.log_prob(rows).numpy()

    def score(self, X: Any, y: Any = None) -> float:  # pyright: ignore[reportIncompatibleMethodOverride] # stub: None
        """*Mean* log density of the rows in nats a row, as ``GaussianMixture`` defines it; ``KernelDensity`` gives the sum.

        Args:
            X: Rows of shape ``(n, d)``.
            y: Ignored; scikit-learn's model selection passes it.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw rows ``(n_samples, d)``.

        Args:
            n_samples: Number of rows, at least 1.
            random_state: Seed, ``numpy.random.RandomState``, or None for a fresh seed.

        Raises:
            DataError: Fewer than 1 sample asked for.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise DataError(f"n_samples must be at least 1, got {n_samples}")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        return self.density_.sample(n_samples, seed=seed).numpy()


def _with_nan(rows: Any) -> Any:
    """Masked arrays and tensors as plain arrays with NaN for masked values; others as they are.

    Raises:
        DataError: a list of rows with names, which would be read by place.
    """
    if isinstance(rows, list | tuple):
        plain_array(rows)
        return rows
    if not isinstance(rows, np.ma.MaskedArray | torch.Tensor):
        return rows
    array = plain_array(rows)
    return array if array.dtype.kind == "c" else array_numbers(array, where="X")
