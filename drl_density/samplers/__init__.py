"""Samplers over an energy sequence, of one signature: ``sample_...(model, num_samples, *, ..., generator, on_step)``."""

from drl_density.samplers.conditional import (
    ConditionalPlan,
    ConditionalResult,
    ConditionalSettings,
    plan_conditional,
    sample_conditional,
)
from drl_density.samplers.progressive import (
    ProgressivePlan,
    ProgressiveSampler,
    ProgressiveSettings,
    StepRecord,
    plan_progressive,
    sample_progressive,
)

__all__ = [
    "ConditionalPlan",
    "ConditionalResult",
    "ConditionalSettings",
    "ProgressivePlan",
    "ProgressiveSampler",
    "ProgressiveSettings",
    "StepRecord",
    "plan_conditional",
    "plan_progressive",
    "sample_conditional",
    "sample_progressive",
]
