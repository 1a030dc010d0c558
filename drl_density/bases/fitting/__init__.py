"""Fits reference densities to rows: Gaussian mixtures in batches and stacks, factor analysers, and spline flows."""

from drl_density.bases.fitting.expectation_maximization import MixtureBatch, fit_mixtures
from drl_density.bases.fitting.factor_analysis import DrawRows, FactorSize, fit_factor_analysers
from drl_density.bases.fitting.factor_sizes import FittedFactors, SizeSearch, fit_factors_by_size
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
    "DrawRows",
    "FactorSize",
    "FittedFactors",
    "FittedFlow",
    "FlowPlan",
    "MixtureBatch",
    "SizeSearch",
    "StackSettings",
    "StackedMixture",
    "affordable_flow",
    "fit_factor_analysers",
    "fit_factors_by_size",
    "fit_mixtures",
    "fit_spline_flow",
    "fit_stacked_mixture",
    "refit_stack",
    "stacking_weights",
]
