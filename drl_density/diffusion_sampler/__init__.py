"""Denoising diffusion samplers: learned samplers of a target of which only the unnormalised density is known."""

from drl_density.diffusion_sampler.sampler import DiffusionSampler, Frame, sequence_sampler
from drl_density.diffusion_sampler.settings import DiffusionSamplerSettings
from drl_density.diffusion_sampler.training import DiffusionTraining, train_diffusion_sampler

__all__ = [
    "DiffusionSampler",
    "DiffusionSamplerSettings",
    "DiffusionTraining",
    "Frame",
    "sequence_sampler",
    "train_diffusion_sampler",
]
