"""Denoising diffusion samplers: a learned sampler of a target that is known by its unnormalised density alone."""

from drl_density.diffusion_sampler.sampler import DiffusionSampler, DiffusionSamplerSettings, sequence_sampler
from drl_density.diffusion_sampler.training import DiffusionTraining, train_diffusion_sampler

__all__ = [
    "DiffusionSampler",
    "DiffusionSamplerSettings",
    "DiffusionTraining",
    "sequence_sampler",
    "train_diffusion_sampler",
]
