"""Networks of a diffusion sampler's control."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from drl_density.diffusion_sampler.settings import DiffusionSamplerSettings
from drl_density.mcmc import LogDensity

# Sines and cosines of the step that the control sees, and the reach of its sigmoids of one coordinate in units of the scale.
NUM_PHASES, REACH = 16, 2.5


class ColumnTerm(nn.Module):
    r"""A control of each coordinate by its own value, :math:`\sum_j c_{ij}(k) \tanh((y_i - m_j) / h)`; zero at first.

    The centres m_j are even over the walk's range, h is their gap, and the weights c are linear in sines and cosines of the
    step. It learns the score of a product of one-dimensional densities, such as many wells, which a network of all
    coordinates together has to find for each of them.

    Args:
        num_columns: d, the number of coordinates.
        count: number of sigmoids of each coordinate.
        scale: s, the standard deviation of the reference; the centres reach to 2.5 s on both sides.

    >>> term = ColumnTerm(3, 8, 1.0)
    >>> term(torch.zeros(5, 3).double(), torch.zeros(1, NUM_PHASES).double(), is_held=False).shape
    torch.Size([5, 3])
    """

    centers: Tensor

    def __init__(self, num_columns: int, count: int, scale: float) -> None:
        super().__init__()
        reach = REACH * scale
        self.register_buffer("centers", torch.linspace(-reach, reach, count, dtype=torch.float64))
        self.gap = 2 * reach / count
        self.weights = nn.Linear(NUM_PHASES, count * num_columns, dtype=torch.float64)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)

    def forward(self, flat: Tensor, phases: Tensor, *, is_held: bool) -> Tensor:
        """The term at states ``(n, d)``, ``(n, d)``.

        Args:
            flat: states of the walk, ``(n, d)``.
            phases: sines and cosines of the step, ``(1 or n, phases)``.
            is_held: whether the parameters are detached.
        """
        weight, bias = (x.detach() if is_held else x for x in (self.weights.weight, self.weights.bias))
        shares = nn.functional.linear(phases, weight, bias).reshape(len(phases), flat.shape[1], -1)
        return (torch.tanh((flat[..., None] - self.centers) / self.gap) * shares).sum(-1)


class ControlNetwork(nn.Module):
    """The control f(y, k) = a(y, k) + b(y, k) g(y) + c(y, k) y by coordinates, with the target's gradient g; zero at first.

    As in the paper g is an input of the network: gradients along walks treat it as constant.

    Args:
        log_density: unnormalised log density of the target.
    """

    def __init__(
        self,
        log_density: LogDensity,
        num_features: int,
        settings: DiffusionSamplerSettings,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.log_density, self.settings = log_density, settings
        self.first = nn.Linear(num_features + NUM_PHASES, settings.width, dtype=torch.float64)
        self.second = nn.Linear(settings.width, settings.width, dtype=torch.float64)
        self.last = nn.Linear(settings.width, 3 * num_features, dtype=torch.float64)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        count = settings.num_column_features
        self.columns = ColumnTerm(num_features, count, settings.scale) if count else None

    def forward(self, y: Tensor, step: int | Tensor) -> Tensor:
        """The control before step k, ``(n, *event)``.

        Args:
            y: states of the walks, ``(n, *event)``.
            step: k, one for all states or one for each, ``(n,)``.
        """
        return self._at(y, step, self._gradient(y), is_held=False)

    def with_held(self, y: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The control, and the control with its parameters detached; the target's gradient is evaluated once for both.

        Args:
            y: states of the walks, ``(n, *event)``.
            step: k, one for all states.
        """
        gradient = self._gradient(y)
        return self._at(y, step, gradient, is_held=False), self._at(y, step, gradient, is_held=True)

    def _at(self, y: Tensor, step: int | Tensor, gradient: Tensor, *, is_held: bool) -> Tensor:
        flat = y.reshape(len(y), -1).double()
        place = (torch.as_tensor(step, dtype=flat.dtype).reshape(-1, 1) + 0.5) / self.settings.num_steps
        time = place * torch.arange(1, NUM_PHASES // 2 + 1, dtype=flat.dtype) * math.pi
        phases = torch.cat([time.sin(), time.cos()], 1)
        length = flat.norm(dim=1, keepdim=True) / (20 * self.settings.scale)
        out = torch.cat([flat / (1 + length), phases.expand(len(flat), -1)], 1)
        for layer in (self.first, self.second, self.last):
            weight, bias = (x.detach() if is_held else x for x in (layer.weight, layer.bias))
            out = nn.functional.linear(out, weight, bias)
            out = out if layer is self.last else nn.functional.gelu(out)
        free, by_gradient, by_state = out.chunk(3, 1)
        control = free + by_gradient * gradient + by_state * flat / self.settings.scale
        if self.columns is not None:
            control = control + self.columns(flat, phases, is_held=is_held)
        return control.reshape(y.shape).to(y)

    def _gradient(self, y: Tensor) -> Tensor:
        with torch.enable_grad():
            point = y.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.log_density(point).sum(), point)
        flat = gradient.reshape(len(gradient), -1)
        return flat / (1 + flat.abs() / self.settings.gradient_scale)
