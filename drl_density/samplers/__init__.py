"""Samplers over an energy sequence, of one signature: ``sample_...(model, num_samples, *, ..., generator, on_step)``."""

from drl_density.samplers.ancestral import AncestralSettings, sample_ancestral
from drl_density.samplers.corrected import CorrectionSettings, sample_corrected
from drl_density.samplers.ddim import DDIMSettings, interpolate_codes, invert_ddim, sample_ddim
from drl_density.samplers.flow import FlowSettings, sample_flow
from drl_density.samplers.frequency_average import (
    AveragedDenoiser,
    FrequencyAverage,
    cosine_axes,
    haar_axes,
    moving_average,
    sample_averaged,
)
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
    "AveragedDenoiser",
    "CorrectionSettings",
    "CorrectorSettings",
    "DDIMSettings",
    "FlowSettings",
    "FrequencyAverage",
    "ProgressivePlan",
    "ProgressiveSampler",
    "ProgressiveSettings",
    "ShortRunSettings",
    "StepRecord",
    "TemperedChains",
    "TemperingSettings",
    "cosine_axes",
    "haar_axes",
    "interpolate_codes",
    "invert_ddim",
    "moving_average",
    "plan_progressive",
    "sample_ancestral",
    "sample_averaged",
    "sample_corrected",
    "sample_ddim",
    "sample_flow",
    "sample_predictor_corrector",
    "sample_progressive",
    "sample_short_run",
    "sample_tempered",
]
