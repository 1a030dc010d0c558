r"""Path weights of a noise sequence: Gaussian reverse kernels down the levels, known noising kernels up.

For a path :math:`x_0, \dots, x_N` over a fine grid of levels from 0 to T,

.. math:: \log w = F_0(x_0) + \sum_n \log q(x_{n+1} \mid x_n)
    - \log \mathcal{N}(x_N; 0, I) - \sum_n \log r_n(x_n \mid x_{n+1})

with the noising kernels q and normalised reverse kernels r_n = N(m_n, V_n): m_n by Tweedie's formula from the score one
grid point up, :math:`V_n = (a^2 / s^2 + E[\nabla F_n \nabla F_n^\top])^{-1}`, diagonal in the axes of the draws'
covariance (exact for Gaussian levels, positive for any). Only F_0 is the target: errors at other levels cost variance,
never bias. E[w] = Z over paths drawn downward; E[1/w] = 1/Z over draws of p_0 noised upward.

Source: the extended target of diffusion samplers (Vargas et al. 2023); Bennett 1976 for joining both directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.model import EnergySequence


@dataclass(frozen=True)
class ReversePath:
    """Grid and reverse kernels, fixed by a pilot.

    Attributes:
        model: the sequence.
        levels: grid from 0 to T, ``(N + 1,)``.
        axes: orthonormal, of the flattened point, ``(d, d)``.
        variances: of the reverse kernel of each step along ``axes``, ``(N, d)``.
        max_rows: rows evaluated at once.
    """

    model: EnergySequence
    levels: Tensor
    axes: Tensor
    variances: Tensor
    max_rows: int = 8192

    @property
    def num_steps(self) -> int:
        """N."""
        return len(self.levels) - 1

    def kernel_log_density(self, residual: Tensor, index: int) -> Tensor:
        """log density of reverse kernel ``index`` at ``residual`` ``(n, *event)`` from its mean."""
        return _normal(residual.flatten(1).double() @ self.axes.double(), self.variances[index])


def plan_reverse_path(
    model: EnergySequence,
    draws: Tensor,
    *,
    steps_per_level: int = 10,
    generator: torch.Generator | None = None,
) -> ReversePath:
    """Tune each step's variance on pilot draws of level 0, noised upward; they must not be used again.

    Args:
        model: the sequence.
        draws: pilot rows ``(n, *event)``, roughly from level 0.
        steps_per_level: grid steps per unit of level.
    """
    num_steps = max(1, math.ceil(model.num_levels * steps_per_level))
    levels = torch.linspace(0, model.num_levels, num_steps + 1, dtype=torch.float64)
    variances, x = [], draws.to(model.dtype)
    axes = torch.linalg.eigh(x.flatten(1).double().T.cov().reshape(x[0].numel(), -1))[1].to(x)
    for cleaner, noisier in zip(levels[:-1], levels[1:], strict=True):
        step_alpha, step_sigma = (float(value) for value in model.schedule.step_between(cleaner, noisier))
        information = (model.score(x, cleaner).flatten(1) @ axes).square().mean(0)
        variances.append(1 / ((step_alpha / step_sigma) ** 2 + information))
        x = model.schedule.diffuse_step(x, cleaner, noisier, generator=generator)
    return ReversePath(model, levels, axes, torch.stack(variances))


def forward_weights(
    path: ReversePath, num_paths: int, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Log weights ``(num_paths,)``, float64, and end points ``(num_paths, *event)`` of paths drawn from N(0, I) down."""
    parts = [_downward(path, count, generator) for count in _chunks(num_paths, path.max_rows)]
    return torch.cat([weights for weights, _ in parts]), torch.cat([ends for _, ends in parts])


def reverse_weights(path: ReversePath, draws: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Log weights ``(n,)``, float64, of paths that noise ``draws`` ``(n, *event)`` of level 0 upward."""
    return torch.cat([_upward(path, rows, generator) for rows in draws.to(path.model.dtype).split(path.max_rows)])


def _downward(path: ReversePath, num_paths: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    model = path.model
    shape = (num_paths, *model.event_shape)
    x = torch.randn(shape, generator=generator, dtype=model.dtype, device=model.device)
    weights = -_top(model, x)
    for index in range(path.num_steps - 1, -1, -1):
        cleaner, noisier = path.levels[index], path.levels[index + 1]
        mean = _reverse_mean(model, x, cleaner, noisier)
        noise = torch.randn(num_paths, len(path.axes), generator=generator, dtype=model.dtype, device=model.device)
        below = mean + ((path.variances[index].sqrt() * noise) @ path.axes.T).reshape(shape)
        weights = weights + _noising(model, below, x, cleaner, noisier) - path.kernel_log_density(below - mean, index)
        x = below
    with torch.no_grad():
        return weights + model.log_density(x, 0).double(), x


def _upward(path: ReversePath, x: Tensor, generator: torch.Generator | None) -> Tensor:
    model = path.model
    with torch.no_grad():
        weights = model.log_density(x, 0).double()
    for index in range(path.num_steps):
        cleaner, noisier = path.levels[index], path.levels[index + 1]
        above = model.schedule.diffuse_step(x, cleaner, noisier, generator=generator)
        mean = _reverse_mean(model, above, cleaner, noisier)
        weights = weights + _noising(model, x, above, cleaner, noisier) - path.kernel_log_density(x - mean, index)
        x = above
    return weights - _top(model, x)


def _reverse_mean(model: EnergySequence, x: Tensor, cleaner: Tensor, noisier: Tensor) -> Tensor:
    """E[x_cleaner | x_noisier] by Tweedie's formula for one step."""
    step_alpha, step_sigma = (float(value) for value in model.schedule.step_between(cleaner, noisier))
    if float(noisier) == model.num_levels:
        return step_alpha * x  # the top is N(0, I): its score is -x, and 1 - s^2 = a^2
    return (x + step_sigma**2 * model.score(x, noisier)) / step_alpha


def _noising(model: EnergySequence, below: Tensor, above: Tensor, cleaner: Tensor, noisier: Tensor) -> Tensor:
    step_alpha, step_sigma = (float(value) for value in model.schedule.step_between(cleaner, noisier))
    return _normal(above - step_alpha * below, torch.as_tensor(step_sigma**2).to(above))


def _top(model: EnergySequence, x: Tensor) -> Tensor:
    return _normal(x, torch.ones((), dtype=x.dtype, device=x.device))


def _normal(residual: Tensor, variance: Tensor) -> Tensor:
    flat = residual.double()
    variance = variance.double()
    return -0.5 * (flat.square() / variance + variance.log() + math.log(2 * math.pi)).flatten(1).sum(1)


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]
