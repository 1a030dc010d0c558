"""Samplers of an energy sequence, all called as ``sample_...(model, num_samples, *, settings, generator, ...)``."""

from drl_density.samplers.ancestral import AncestralSettings, sample_ancestral
from drl_density.samplers.averages import (
    AveragedDenoiser,
    FrequencyAverage,
    calibrated_average,
    cosine_axes,
    final_spread,
    haar_axes,
    matched_average,
    moving_average,
    sample_averaged,
)
from drl_density.samplers.ddim import DDIMSettings, MultistepDenoiser, interpolate_codes, invert_ddim, sample_ddim
from drl_density.samplers.flow import FlowSettings, sample_flow
from drl_density.samplers.importance import (
    LevelZeroPlan,
    LevelZeroSampler,
    plan_level_zero,
    sample_level_zero,
)
from drl_density.samplers.predictor_corrector import PredictorCorrectorSettings, sample_predictor_corrector
from drl_density.samplers.progressive import (
    ProgressivePlan,
    ProgressiveSettings,
    plan_progressive,
    sample_progressive,
)
from drl_density.samplers.refinement import RefinementSettings, sample_refined
from drl_density.samplers.short_run import ShortRunSettings, sample_short_run
from drl_density.samplers.tempering import TemperedChains, TemperingSettings, run_tempering
from drl_density.samplers.walk import StepRecord

__all__ = [
    "AncestralSettings",
    "AveragedDenoiser",
    "DDIMSettings",
    "FlowSettings",
    "FrequencyAverage",
    "LevelZeroPlan",
    "LevelZeroSampler",
    "MultistepDenoiser",
    "PredictorCorrectorSettings",
    "ProgressivePlan",
    "ProgressiveSettings",
    "RefinementSettings",
    "ShortRunSettings",
    "StepRecord",
    "TemperedChains",
    "TemperingSettings",
    "calibrated_average",
    "cosine_axes",
    "final_spread",
    "haar_axes",
    "interpolate_codes",
    "invert_ddim",
    "matched_average",
    "moving_average",
    "plan_level_zero",
    "plan_progressive",
    "run_tempering",
    "sample_ancestral",
    "sample_averaged",
    "sample_ddim",
    "sample_flow",
    "sample_level_zero",
    "sample_predictor_corrector",
    "sample_progressive",
    "sample_refined",
    "sample_short_run",
]
