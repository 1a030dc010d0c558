"""Fits reference densities to rows: batches of Gaussian mixtures, and stacks of bagged mixtures."""

from drl_density.bases.fitting.expectation_maximization import MixtureBatch, fit_mixtures
from drl_density.bases.fitting.stacked_mixture import StackedMixture, StackSettings, fit_stacked_mixture
from drl_density.bases.fitting.stacking import stacking_weights

__all__ = [
    "MixtureBatch",
    "StackSettings",
    "StackedMixture",
    "fit_mixtures",
    "fit_stacked_mixture",
    "stacking_weights",
]
