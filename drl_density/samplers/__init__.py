"""Samplers over an energy sequence, of one signature: ``sample_...(model, num_samples, *, ..., generator, on_step)``."""

from drl_density.samplers.ancestral import AncestralSettings, sample_ancestral
from drl_density.samplers.completion import CompletionSettings, move_missing
from drl_density.samplers.conditional import (
    ConditionalPlan,
    ConditionalResult,
    ConditionalSettings,
    plan_conditional,
    sample_conditional,
)
from drl_density.samplers.corrected import CorrectionSettings, sample_corrected
from drl_density.samplers.ddim import DDIMSettings, interpolate_codes, invert_ddim, sample_ddim
from drl_density.samplers.diffusion_sampler import (
    DiffusionSampler,
    DiffusionSamplerSettings,
    sequence_sampler,
)
from drl_density.samplers.diffusion_training import DiffusionTraining, train_diffusion_sampler
from drl_density.samplers.flow import FlowSettings, sample_flow
from drl_density.samplers.frequency_average import (
    AveragedDenoiser,
    FrequencyAverage,
    cosine_axes,
    haar_axes,
    moving_average,
    sample_averaged,
)
from drl_density.samplers.inverse import GuidanceSettings, gaussian_likelihood, sample_guided, sample_projected
from drl_density.samplers.posterior import AnnealedPosterior, sample_path, sample_posterior
from drl_density.samplers.predictor_corrector import CorrectorSettings, sample_predictor_corrector
from drl_density.samplers.progressive import (
    ProgressivePlan,
    ProgressiveSampler,
    ProgressiveSettings,
    StepRecord,
    plan_progressive,
    sample_progressive,
)
from drl_density.samplers.short_run import ShortRunSettings, sample_short_run
from drl_density.samplers.tempering import TemperedChains, TemperingSettings, sample_tempered

__all__ = [
    "AncestralSettings",
    "AnnealedPosterior",
    "AveragedDenoiser",
    "CompletionSettings",
    "ConditionalPlan",
    "ConditionalResult",
    "ConditionalSettings",
    "CorrectionSettings",
    "CorrectorSettings",
    "DDIMSettings",
    "DiffusionSampler",
    "DiffusionSamplerSettings",
    "DiffusionTraining",
    "FlowSettings",
    "FrequencyAverage",
    "GuidanceSettings",
    "ProgressivePlan",
    "ProgressiveSampler",
    "ProgressiveSettings",
    "ShortRunSettings",
    "StepRecord",
    "TemperedChains",
    "TemperingSettings",
    "cosine_axes",
    "gaussian_likelihood",
    "haar_axes",
    "interpolate_codes",
    "invert_ddim",
    "move_missing",
    "moving_average",
    "plan_conditional",
    "plan_progressive",
    "sample_ancestral",
    "sample_averaged",
    "sample_conditional",
    "sample_corrected",
    "sample_ddim",
    "sample_flow",
    "sample_guided",
    "sample_path",
    "sample_posterior",
    "sample_predictor_corrector",
    "sample_progressive",
    "sample_projected",
    "sample_short_run",
    "sample_tempered",
    "sequence_sampler",
    "train_diffusion_sampler",
]
