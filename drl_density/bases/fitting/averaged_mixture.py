"""Large mixtures for many rows: the average of fits from different starts, as many as the time allows."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from drl_density.bases.fitting.expectation_maximization import fit_mixtures
from drl_density.bases.gaussian_mixture import NoisedGaussianMixture

ROWS_PER_COMPONENT, MOST_SIZE = 100, 60
"""Rows for each component of a mixture, and components at most. Single mixtures of 4,699 rows in 14 columns scored best on
validation with 25 to 50 components. Averages forgive sizes that overfit alone."""

MOST_FITS, MOST_COMPONENTS = 16, 1000
"""Fits in an average, and their components together, which bound the cost of a row."""

NUM_ITERATIONS = 20
"""Iterations of expectation maximisation of every fit."""

SECONDS_PER_PRODUCT = 4e-10
"""Seconds of one core for a row, a component and a product of two columns, in an iteration."""

LEAST_SHARE = 1e-3
"""Weight, as a share of the mean weight, below which a component is left out."""


def fit_averaged_mixture(
    copies: Tensor,
    *,
    ridge: float,
    seconds: float,
    is_timed: bool = False,
    generator: torch.Generator | None = None,
) -> NoisedGaussianMixture | None:
    """Average full-covariance mixtures with one component for 100 rows, and 60 at most, that differ by their first means.

    The search of a stack tries many small sizes first. On thousands of rows it has no time for sizes that are nats better.
    Validation rows judge the average, so every fit takes all rows. Bootstrap samples of 4,699 rows scored two nats lower
    alone, and their average 0.2 nats lower than one fit of all rows.

    Args:
        copies: rows in model space ``(c, n, d)``, in c copies that differ by dequantisation noise, without missing values;
            the fits take the copies in turn.
        ridge: variance added to every column of every covariance.
        seconds: seconds of one core that the fits may take, by which their number is chosen.
        is_timed: whether these are seconds of the clock. Otherwise they are the expected ones, and equal seeds give equal
            mixtures.
        generator: source of the first means.

    Returns:
        The average as one mixture; None where the time does not allow a single fit.

    Source: Ormoneit and Tresp 1996, "Improved Gaussian mixture density estimates using Bayesian penalty terms and network
    averaging".

    >>> rows = torch.randn(1, 400, 2, generator=torch.Generator().manual_seed(0))
    >>> fit_averaged_mixture(rows, ridge=0.01, seconds=0.01).num_features
    2
    """
    num_rows, num_features = copies.shape[1:]
    size = max(1, min(MOST_SIZE, num_rows // ROWS_PER_COMPONENT, num_rows // (2 * (num_features + 3))))
    products = num_features * (num_features + 3) / 2
    cost = NUM_ITERATIONS * num_rows * size * products * SECONDS_PER_PRODUCT
    if cost > seconds:
        return None
    most = max(1, min(MOST_FITS, MOST_COMPONENTS // size))
    count = most if is_timed else min(most, int(seconds / cost))
    begun, parts = time.monotonic(), []
    while len(parts) < count:
        spent = time.monotonic() - begun
        if is_timed and parts and spent * (len(parts) + 1) > seconds * len(parts):
            break
        rows, equal = copies[len(parts) % len(copies)], torch.ones(1, num_rows)
        fit = fit_mixtures(rows, equal, size, ridge=ridge, num_iterations=NUM_ITERATIONS, generator=generator)
        weights = fit.log_weights[0].exp()
        kept = weights > LEAST_SHARE / size
        weights = weights[kept] / weights[kept].sum()
        parts.append(NoisedGaussianMixture(weights, fit.means[0, kept], fit.covariances[0, kept]))
    return NoisedGaussianMixture.even(parts)
