"""Few-step and one-step generators learned from an energy sequence; they have no density."""

from drl_density.distillation.em import EMDistillationSettings, distill_by_em
from drl_density.distillation.gaps import GapNetwork
from drl_density.distillation.generator import OneStepGenerator, RollOut, TiltedGaussianNetwork
from drl_density.distillation.mmd import (
    MMDSettings,
    cubic_kernel,
    energy_kernel,
    finetune,
    log_kernel,
    rbf_kernel,
    unbiased_mmd,
)
from drl_density.distillation.warm_start import WarmStartSettings, follow_flow

__all__ = [
    "EMDistillationSettings",
    "GapNetwork",
    "MMDSettings",
    "OneStepGenerator",
    "RollOut",
    "TiltedGaussianNetwork",
    "WarmStartSettings",
    "cubic_kernel",
    "distill_by_em",
    "energy_kernel",
    "finetune",
    "follow_flow",
    "log_kernel",
    "rbf_kernel",
    "unbiased_mmd",
]
