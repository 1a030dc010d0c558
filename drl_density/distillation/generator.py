"""Generators: maps from noise to points that can be sampled and have no density of their own."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from drl_density.model import EnergySequence
from drl_density.samplers import DDIMSettings
from drl_density.samplers.ddim import move


class RollOut(nn.Module):
    """A deterministic DDIM walk of few steps as one differentiable generator.

    It holds a copy of the sequence: after finetuning its energies are only a score field for this walk. They are no
    longer trained models, and their values are not to be used as densities.

    Args:
        model: the sequence, which is copied.
        settings: the walk; eta must be 0.

    Raises:
        ValueError: a random walk.
    """

    def __init__(self, model: EnergySequence, settings: DDIMSettings) -> None:
        super().__init__()
        if settings.eta:
            raise ValueError(f"a roll-out is deterministic: eta must be 0, got {settings.eta}")
        self.model = copy.deepcopy(model)
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        self.levels = settings.walk(model)

    def forward(self, noise: Tensor) -> Tensor:
        """Points ``(n, *event)`` from latent codes, with the graph through every step."""
        x = noise
        for pair in zip(self.levels, self.levels[1:], strict=False):
            clean = self.model.denoise(x, pair[0], has_graph=torch.is_grad_enabled())
            x = move(self.model, x, clean, pair, 0.0, None)
        return x

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws ``(num_samples, *event)``."""
        shape = (num_samples, *self.model.event_shape)
        noise = torch.randn(shape, generator=generator, dtype=self.model.dtype, device=self.model.device)
        with torch.no_grad():
            return self(noise)


class OneStepGenerator(nn.Module):
    """x = g(z) with z ~ N(0, I).

    Args:
        network: maps ``(n, num_latents)`` to ``(n, *event)``.
        num_latents: length of z.
    """

    def __init__(self, network: nn.Module, num_latents: int) -> None:
        super().__init__()
        self.network, self.num_latents = network, num_latents

    def forward(self, latents: Tensor) -> Tensor:
        """g(z)."""
        return self.network(latents)

    def latents(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        """Draws of z."""
        dtype = next(self.network.parameters()).dtype
        return torch.randn(num_samples, self.num_latents, generator=generator, dtype=dtype)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws ``(num_samples, *event)``."""
        with torch.no_grad():
            return self(self.latents(num_samples, generator))
