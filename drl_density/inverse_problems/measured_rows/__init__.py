"""Draws for many linear measurements of large points, under networks and mixtures of factor analysers."""

from drl_density.inverse_problems.measured_rows.errors import DenoisingErrors
from drl_density.inverse_problems.measured_rows.gaussian import (
    MeasuredGaussian,
    Measurements,
    sample_factor_posterior,
)
from drl_density.inverse_problems.measured_rows.sampler import MeasuredRowSettings, sample_measured_rows

__all__ = [
    "DenoisingErrors",
    "MeasuredGaussian",
    "MeasuredRowSettings",
    "Measurements",
    "sample_factor_posterior",
    "sample_measured_rows",
]
