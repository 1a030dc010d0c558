"""Posteriors of an energy sequence under measurements: known coordinates, linear operators, likelihoods, ambient data."""

from drl_density.inverse_problems.ambient import AmbientDenoiser, AmbientPrior, AmbientSettings, train_ambient
from drl_density.inverse_problems.annealed_posterior import AnnealedPosterior, sample_path, sample_posterior
from drl_density.inverse_problems.completion import CompletionSettings, move_missing
from drl_density.inverse_problems.conditional import (
    ConditionalPlan,
    ConditionalResult,
    ConditionalSettings,
    plan_conditional,
    sample_conditional,
)
from drl_density.inverse_problems.measurement_guidance import (
    GuidanceSettings,
    gaussian_likelihood,
    sample_guided,
    sample_projected,
)

__all__ = [
    "AmbientDenoiser",
    "AmbientPrior",
    "AmbientSettings",
    "AnnealedPosterior",
    "CompletionSettings",
    "ConditionalPlan",
    "ConditionalResult",
    "ConditionalSettings",
    "GuidanceSettings",
    "gaussian_likelihood",
    "move_missing",
    "plan_conditional",
    "sample_conditional",
    "sample_guided",
    "sample_path",
    "sample_posterior",
    "sample_projected",
    "train_ambient",
]
