"""Invertible maps from data to model space with their bounds, Jacobians, tails and states; dequantisation."""

from drl_density.transforms.composed import Composed
from drl_density.transforms.data_transform import Bounds, DataTransform
from drl_density.transforms.dequantization.uniform import Dequantization
from drl_density.transforms.dequantization.variational import (
    NoisedRows,
    VariationalDequantization,
    dequantization_bound,
    train_dequantization,
)
from drl_density.transforms.elementary import Affine, Logit, Whitening, logit, standardize, whiten
from drl_density.transforms.fit_marginals import fit_marginal_gaussianization
from drl_density.transforms.gaussianize import MarginalGaussianization
from drl_density.transforms.grid_histograms import GridHistograms, fit_grid_histograms
from drl_density.transforms.marginals import Histogram, Marginals, fit_histogram
from drl_density.transforms.state import transform_from_state
from drl_density.transforms.units import binary_units

__all__ = [
    "Affine",
    "Bounds",
    "Composed",
    "DataTransform",
    "Dequantization",
    "GridHistograms",
    "Histogram",
    "Logit",
    "MarginalGaussianization",
    "Marginals",
    "NoisedRows",
    "VariationalDequantization",
    "Whitening",
    "binary_units",
    "dequantization_bound",
    "fit_grid_histograms",
    "fit_histogram",
    "fit_marginal_gaussianization",
    "logit",
    "standardize",
    "train_dequantization",
    "transform_from_state",
    "whiten",
]
