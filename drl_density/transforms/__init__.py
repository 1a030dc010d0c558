"""Invertible maps from data to model space, each with its log-Jacobian, and dequantisation."""

from drl_density.transforms.columnwise import column_log_jacobian, single_column
from drl_density.transforms.dequantize import Dequantization
from drl_density.transforms.elementary import Logit, Whitening, logit, standardize, whiten
from drl_density.transforms.gaussianize import MarginalGaussianization, fit_marginal_gaussianization
from drl_density.transforms.marginals import Marginals
from drl_density.transforms.state import transform_from_state, transform_to_state
from drl_density.transforms.variational import (
    NoisedRows,
    VariationalDequantization,
    dequantization_bound,
    train_dequantization,
)

__all__ = [
    "Dequantization",
    "Logit",
    "MarginalGaussianization",
    "Marginals",
    "NoisedRows",
    "VariationalDequantization",
    "Whitening",
    "column_log_jacobian",
    "dequantization_bound",
    "fit_marginal_gaussianization",
    "logit",
    "single_column",
    "standardize",
    "train_dequantization",
    "transform_from_state",
    "transform_to_state",
    "whiten",
]
