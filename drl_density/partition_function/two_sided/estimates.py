"""The estimators of log Z that a sandwich compares, by name, and the means of log weights that bound it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

from torch import Tensor

from drl_density.log_weights import alive_mean
from drl_density.weights import Estimate, combine_replicates, log_mean_exp


class Estimator(StrEnum):
    """An estimator of log Z; its string is its label in reports.

    >>> Estimator("Bennett's ratio") is Estimator.BENNETT
    True
    """

    BENNETT_EARLY = "Bennett's ratio, draws mixed a quarter as long"
    """The point estimate from draws that took a quarter of the mixing steps."""
    ANNEALING = "annealed importance sampling"
    """A stochastic lower bound that is nearly unbiased with many particles."""
    FORWARD = "forward paths (mean weight)"
    """Log-mean-exp of the forward weights, a stochastic lower bound."""
    REVERSE = "reverse paths (mean inverse weight)"
    """Minus the log-mean-exp of minus the reverse weights, a stochastic upper bound."""
    LOWER = "lower bound (mean log weight, forward)"
    """Mean forward log weight, of groups of paths where the base was fitted: below log Z in expectation for any target."""
    BENNETT = "Bennett's ratio"
    """The point estimate: Bennett's acceptance ratio of both directions."""
    MULTISTATE = "multistate Bennett's ratio over the annealing densities"
    """Reweighted equilibrium draws of all annealing densities."""
    INTEGRATION = "thermodynamic integration over the annealing densities"
    """The trapezoid rule over the same draws."""
    UPPER_NOISE = "upper bound (mean log weight, reverse)"
    """Mean reverse log weight: above log Z in expectation as far as the draws are draws of the target."""
    UPPER_DATA = "upper bound (mean log weight, reverse from data)"
    """The same bound from chains that began at rows of data."""
    BENNETT_DATA = "Bennett's ratio, draws from data"
    """The point estimate from chains that began at rows of data."""
    IMPORTANCE = "importance sampling from the reference"
    """Mean weight of independent draws of a sequence's base, a stochastic lower bound."""
    NOISE = "annealing along the noise levels"
    """Annealing from pure noise with few particles, beside walks of another kind: a stochastic lower bound."""
    RESAMPLED = "resampled particles along the noise levels"
    """Sequential Monte Carlo down the noise levels: unbiased for Z, so a stochastic lower bound."""
    CONDITIONAL = "resampled particles around a retained draw"
    """Conditional sequential Monte Carlo: unbiased for 1 / Z as far as the retained draws are draws of the target, so a
    stochastic upper bound."""
    BENNETT_RESAMPLED = "Bennett's ratio of resampled particles"
    """Bennett's ratio of the mean weights of these two kinds of runs, one weight per replicate."""
    UPPER_ROWS = "mean log weight, reverse from rows of data"
    """Mean reverse log weight from noised rows of data without any chain: a bound only where rows are draws of the model."""
    MULTISTATE_LOWER = "multistate ratio along the noise levels (errs low)"
    """The multistate ratio from the draws of that annealing, which lie too high up where its particles collapse."""


Estimates = Mapping[Estimator, Estimate]
"""Estimates of one sandwich; those that need data or rounds are missing where there are none."""


def mean_log_weight(weights: Tensor) -> Estimate:
    """The lower bound of forward paths: mean log weight ``(replicate, path)``, with the error of the replicates' means.

    >>> import torch
    >>> round(mean_log_weight(torch.tensor([[1.0, 3.0], [2.0, 4.0]])).log_z, 6)
    2.5
    """
    by_replicate = alive_mean(weights, 1)
    return Estimate(float(alive_mean(weights.flatten())), float(by_replicate.std() / math.sqrt(len(by_replicate))))


def mean_reverse_log_weight(weights: Tensor) -> Estimate:
    """The upper bound of reverse paths: minus the lower bound that their inverse weights give."""
    found = mean_log_weight(-weights)
    return Estimate(-found.log_z, found.standard_error)


def mean_inverse_weight(weights: Tensor) -> Estimate:
    """Log Z by the mean inverse weight ``(replicate, path)``, which is unbiased for 1 / Z."""
    inverse = combine_replicates(log_mean_exp(-weights, 1))
    return Estimate(-inverse.log_z, inverse.standard_error)
