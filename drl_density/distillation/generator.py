"""Generators: maps from noise to points, which can be sampled but have no density of their own."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drl_density.devices import normal_draws
from drl_density.model import EnergySequence
from drl_density.records.fields import PositiveInt, check_fields
from drl_density.samplers import DDIMSettings, MultistepDenoiser
from drl_density.samplers.ddim import ddim_step


class RollOut(nn.Module):
    """A deterministic walk of few steps as one differentiable generator.

    It copies the sequence. After finetuning, the copy's energies are only a score field for this walk: their values are
    no log densities.

    Args:
        model: sequence whose copy makes the steps.
        settings: levels of the walk, with ``eta`` 0.
        is_multistep: whether its steps follow :class:`~drl_density.samplers.MultistepDenoiser`, in place of DDIM.

    Raises:
        ValueError: a random walk, with ``eta`` above 0.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> RollOut(model, DDIMSettings(num_steps=3)).sample(4).shape
    torch.Size([4, 2])
    """

    def __init__(self, model: EnergySequence, settings: DDIMSettings, *, is_multistep: bool = False) -> None:
        super().__init__()
        if settings.eta:
            raise ValueError(f"a roll-out is deterministic: eta must be 0, got {settings.eta}")
        self.model = copy.deepcopy(model)
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        self.settings, self.levels, self.is_multistep = settings, settings.walk(model), is_multistep

    def forward(self, noise: Tensor) -> Tensor:
        """Points ``(n, *event)`` made from ``noise`` ``(n, *event)``, differentiable through every step."""
        x, denoiser = noise, functools.partial(self.model.denoise, has_graph=torch.is_grad_enabled())
        if self.is_multistep:
            denoiser = MultistepDenoiser(self.model, self.settings, denoiser=denoiser)
        for start, end in zip(self.levels, self.levels[1:], strict=False):
            x = ddim_step(self.model, x, denoiser(x, start), start=start, end=end)
        return x

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws ``(num_samples, *event)`` from fresh noise."""
        shape = (num_samples, *self.model.event_shape)
        noise = normal_draws(shape, self.model, generator)
        with torch.no_grad():
            return self(noise)


class OneStepGenerator(nn.Module):
    """The generator x = g(z) with z ~ N(0, I).

    Args:
        network: the map g, from ``(n, num_latents)`` to ``(n, *event)``.
        num_latents: length of the latent code z.

    >>> generator = OneStepGenerator(nn.Linear(3, 2), num_latents=3)
    >>> generator.sample(5).shape
    torch.Size([5, 2])
    """

    def __init__(self, network: nn.Module, num_latents: int) -> None:
        super().__init__()
        self.network, self.num_latents = network, num_latents

    def forward(self, latents: Tensor) -> Tensor:
        """g(z) for codes z in ``latents`` ``(n, num_latents)``."""
        return self.network(latents)

    def latents(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws of z, ``(num_samples, num_latents)``."""
        return normal_draws((num_samples, self.num_latents), next(self.network.parameters()), generator)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws ``(num_samples, *event)`` from fresh noise."""
        with torch.no_grad():
            return self(self.latents(num_samples, generator=generator))


@dataclass(frozen=True)
class ResidualSizes:
    """Sizes of a :class:`ResidualMap`.

    Attributes:
        num_inputs: length of the input vector.
        num_outputs: length of the output vector.
        width: number of hidden units in every layer.
        num_blocks: number of residual blocks of two layers each.
    """

    num_inputs: PositiveInt
    num_outputs: PositiveInt
    width: PositiveInt = 128
    num_blocks: PositiveInt = 3

    def __post_init__(self) -> None:
        check_fields(self)


class ResidualMap(nn.Module):
    """A residual network between vectors, which starts at zero.

    Args:
        sizes: lengths of the vectors and sizes of the layers.
        dtype: type of the parameters.
        generator: source of the initial weights.

    >>> ResidualMap(ResidualSizes(3, 2, width=8))(torch.ones(1, 3)).tolist()
    [[0.0, 0.0]]
    """

    def __init__(
        self, sizes: ResidualSizes, *, dtype: torch.dtype = torch.float32, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        width = sizes.width
        norms = [nn.LayerNorm(width, dtype=dtype) for _ in range(sizes.num_blocks)]
        inner, outer = ([nn.Linear(width, width, dtype=dtype) for _ in range(sizes.num_blocks)] for _ in range(2))
        self.first = nn.Linear(sizes.num_inputs, width, dtype=dtype)
        self.last = nn.Linear(width, sizes.num_outputs, dtype=dtype)
        for layer in (self.first, *inner):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.normal_(layer.bias, std=0.5, generator=generator)
        # Every block starts as the identity, and the network as zero.
        for layer in (*outer, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.norms, self.inner, self.outer = nn.ModuleList(norms), nn.ModuleList(inner), nn.ModuleList(outer)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors ``(n, num_outputs)`` of ``x`` ``(n, num_inputs)``."""
        hidden = nn.functional.silu(self.first(x))
        for norm, inner, outer in zip(self.norms, self.inner, self.outer, strict=True):
            hidden = hidden + outer(nn.functional.silu(inner(norm(hidden))))
        return self.last(hidden)


class TiltedGaussianNetwork(nn.Module):
    """The map g(z) = m + L z + r(z) with a residual network r that starts at zero, so that g(z) starts as a Gaussian.

    Args:
        mean: mean m of that Gaussian, ``(d,)``.
        factor: Cholesky factor L of its covariance, ``(d, d)``.
        width: number of hidden units in every layer.
        num_blocks: number of residual blocks of two layers each.

    >>> network = TiltedGaussianNetwork(torch.ones(2), torch.eye(2), width=8)
    >>> network(torch.zeros(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    def __init__(
        self,
        mean: Tensor,
        factor: Tensor,
        *,
        width: int = 128,
        num_blocks: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.mean, self.factor = nn.Parameter(mean.clone()), nn.Parameter(factor.clone())
        sizes = ResidualSizes(len(mean), len(mean), width, num_blocks)
        self.residual = ResidualMap(sizes, dtype=mean.dtype, generator=generator)

    def forward(self, z: Tensor) -> Tensor:
        """Points ``(n, d)`` from ``z`` ``(n, d)``."""
        return self.mean + z @ self.factor.T + self.residual(z)
