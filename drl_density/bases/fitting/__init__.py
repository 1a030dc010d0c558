"""Fits reference densities to rows: mixtures in batches and stacks, factor analysers, flows, blends, and pixels in turn."""

from drl_density.bases.fitting.autoregressive_pixels import (
    FittedPixels,
    GreyLevels,
    PixelAffordability,
    PixelPlan,
    affordable_pixels,
    fit_autoregressive_pixels,
)
from drl_density.bases.fitting.averaged_mixture import fit_averaged_mixture
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
    "FittedPixels",
    "FlowPlan",
    "GreyLevels",
    "MixtureBatch",
    "PixelAffordability",
    "PixelPlan",
    "SizeSearch",
    "StackSettings",
    "StackedMixture",
    "affordable_flow",
    "affordable_pixels",
    "error_of_mean",
    "fit_autoregressive_pixels",
    "fit_averaged_mixture",
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
