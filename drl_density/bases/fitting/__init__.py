"""Fits reference densities to rows: batches of Gaussian mixtures, stacks of bagged mixtures, and spline flows."""

from drl_density.bases.fitting.expectation_maximization import MixtureBatch, fit_mixtures
from drl_density.bases.fitting.spline_flow import Affordability, FittedFlow, FlowPlan, affordable_flow, fit_spline_flow
from drl_density.bases.fitting.stacked_mixture import (
    Candidate,
    StackedMixture,
    StackSettings,
    fit_stacked_mixture,
    refit_stack,
)
from drl_density.bases.fitting.stacking import stacking_weights

__all__ = [
    "Affordability",
    "Candidate",
    "FittedFlow",
    "FlowPlan",
    "MixtureBatch",
    "StackSettings",
    "StackedMixture",
    "affordable_flow",
    "fit_mixtures",
    "fit_spline_flow",
    "fit_stacked_mixture",
    "refit_stack",
    "stacking_weights",
]
