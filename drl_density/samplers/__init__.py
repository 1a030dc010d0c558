"""Samplers over an energy sequence, of one signature: ``sample_...(model, num_samples, *, ..., generator, on_step)``."""

from drl_density.samplers.progressive import (
    ProgressivePlan,
    ProgressiveSampler,
    ProgressiveSettings,
    StepRecord,
    plan_progressive,
    sample_progressive,
)

__all__ = [
    "ProgressivePlan",
    "ProgressiveSampler",
    "ProgressiveSettings",
    "StepRecord",
    "plan_progressive",
    "sample_progressive",
]
