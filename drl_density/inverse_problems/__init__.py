"""Posteriors of an energy sequence under measurements: known coordinates, linear operators, likelihoods, ambient data."""

from drl_density.inverse_problems.ambient import AmbientDenoiser, AmbientPrior, AmbientSettings, train_ambient
from drl_density.inverse_problems.annealed_posterior import AnnealedPosterior, sample_path, sample_posterior
from drl_density.inverse_problems.conditional import (
    ConditionalPlan,
    ConditionalResult,
    ConditionalSettings,
    plan_conditional,
    sample_conditional,
)
from drl_density.inverse_problems.conditioned_base import ConditionedBase, condition_on_measurement
from drl_density.inverse_problems.measured import MeasuredSettings, sample_measured
from drl_density.inverse_problems.measured_rows import (
    DenoisingErrors,
    MeasuredGaussian,
    MeasuredRowSettings,
    Measurements,
    sample_factor_posterior,
    sample_measured_rows,
)
from drl_density.inverse_problems.measurement import (
    DPSSettings,
    gaussian_likelihood,
    sample_dps,
    sample_projected,
)
from drl_density.inverse_problems.missing_moves import MissingMoveSettings, move_missing

__all__ = [
    "AmbientDenoiser",
    "AmbientPrior",
    "AmbientSettings",
    "AnnealedPosterior",
    "ConditionalPlan",
    "ConditionalResult",
    "ConditionalSettings",
    "ConditionedBase",
    "DPSSettings",
    "DenoisingErrors",
    "MeasuredGaussian",
    "MeasuredRowSettings",
    "MeasuredSettings",
    "Measurements",
    "MissingMoveSettings",
    "condition_on_measurement",
    "gaussian_likelihood",
    "move_missing",
    "plan_conditional",
    "sample_conditional",
    "sample_dps",
    "sample_factor_posterior",
    "sample_measured",
    "sample_measured_rows",
    "sample_path",
    "sample_posterior",
    "sample_projected",
    "train_ambient",
]
