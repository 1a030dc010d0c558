"""Few-step and one-step generators learned from an energy sequence; they have no density."""

from drl_density.distillation.em import EMDistillationSettings, distill_by_em
from drl_density.distillation.generator import OneStepGenerator, RollOut, TiltedGaussianNetwork
from drl_density.distillation.mmd import MMDSettings, cubic_kernel, finetune, rbf_kernel, unbiased_mmd

__all__ = [
    "EMDistillationSettings",
    "MMDSettings",
    "OneStepGenerator",
    "RollOut",
    "TiltedGaussianNetwork",
    "cubic_kernel",
    "distill_by_em",
    "finetune",
    "rbf_kernel",
    "unbiased_mmd",
]
