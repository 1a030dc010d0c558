"""Fits reference densities to rows: Gaussian mixtures in batches and stacks, factor analysers, flows, and blends."""

from drl_density.bases.fitting.blending import FittedBlend, error_of_mean, fit_blend
from drl_density.bases.fitting.expectation_maximization import MixtureBatch, fit_mixtures
from drl_density.bases.fitting.factor_analysis import DrawRows, FactorSize, fit_factor_analysers
from drl_density.bases.fitting.factor_sizes import FittedFactors, SizeSearch, fit_factors_by_size
from drl_density.bases.fitting.flow import FittedFlow, fit_flow, race_flows
from drl_density.bases.fitting.flow_plan import LEAST_ROWS, Affordability, FlowPlan, affordable_flow
from drl_density.bases.fitting.stacked_mixture import (
    Candidate,
    StackedMixture,
    StackSettings,
    fit_stacked_mixture,
    refit_stack,
)
from drl_density.bases.fitting.stacking import stacking_weights

__all__ = [
    "LEAST_ROWS",
    "Affordability",
    "Candidate",
    "DrawRows",
    "FactorSize",
    "FittedBlend",
    "FittedFactors",
    "FittedFlow",
    "FlowPlan",
    "MixtureBatch",
    "SizeSearch",
    "StackSettings",
    "StackedMixture",
    "affordable_flow",
    "error_of_mean",
    "fit_blend",
    "fit_factor_analysers",
    "fit_factors_by_size",
    "fit_flow",
    "fit_mixtures",
    "fit_stacked_mixture",
    "race_flows",
    "refit_stack",
    "stacking_weights",
]
