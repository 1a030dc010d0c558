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
from functools import cached_property

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.devices import normal_draws
from drl_density.mcmc.kernel import value_and_gradient
from drl_density.model import EnergySequence
from drl_density.partition_function.chunks import chunk_sizes
from drl_density.records.brief import brief


@dataclass(frozen=True, eq=False)
class ReversePath:
    """Grid of levels and reverse kernels, fixed by a pilot.

    Attributes:
        model: sequence whose level 0 is the target.
        levels: grid of levels from 0 to T, ``(N + 1,)``.
        axes: orthonormal axes of the flattened point, ``(d, d)``.
        variances: variance of each step's reverse kernel along the axes, ``(N, d)``.
        max_rows: largest number of rows evaluated at once.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> path = plan_reverse_path(system.model, system.sample(64, 0), steps_per_level=2)
    >>> float(path.levels[0]), float(path.levels[-1])
    (0.0, 8.0)
    """

    model: EnergySequence
    levels: Tensor
    axes: Tensor
    variances: Tensor
    max_rows: int = 8192

    __repr__ = brief

    @property
    def num_steps(self) -> int:
        """Number of steps N between grid points."""
        return len(self.levels) - 1

    @cached_property
    def steps(self) -> list[tuple[float, float, Tensor]]:
        """Signal a and noise s of every noising step, and the log-SNR of its noisier end."""
        alphas, sigmas = self.model.schedule.step_between(self.levels[:-1], self.levels[1:])
        return list(zip(alphas.tolist(), sigmas.tolist(), self.model.schedule.log_snr_at(self.levels[1:]), strict=True))

    @cached_property
    def spreads(self) -> Tensor:
        """Standard deviations of the reverse kernels along the axes, ``(N, d)``."""
        return self.variances.sqrt()

    def kernel_log_density(self, residual: Tensor, index: int) -> Tensor:
        """Log density ``(n,)`` of reverse kernel ``index`` at distances ``residual`` ``(n, *event)`` from its mean."""
        along = residual.flatten(1) @ self.axes
        return _normal(along / self.spreads[index].to(along), self.spreads[index])


@outside_inference_mode
def plan_reverse_path(
    model: EnergySequence,
    draws: Tensor,
    *,
    steps_per_level: int = 10,
    generator: torch.Generator | None = None,
) -> ReversePath:
    """Tune each step's variance on pilot draws of level 0, noised upward.

    The pilot's draws must not be used again: weights of paths that started from them would be biased.

    Args:
        draws: pilot rows ``(n, *event)``, roughly from level 0.
        steps_per_level: grid steps per unit of level.

    Raises:
        ValueError: fewer than two rows.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> plan_reverse_path(system.model, system.sample(64, 0), steps_per_level=2).levels.shape
    torch.Size([17])
    """
    if len(draws) < 2:
        raise ValueError(f"expected at least two pilot draws, whose spread sets the steps, got {len(draws)}")
    num_steps = max(1, math.ceil(model.num_levels * steps_per_level))
    levels = torch.linspace(0, model.num_levels, num_steps + 1, dtype=torch.float64)
    variances, x = [], draws.to(model.device, model.dtype)
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
    """Log weights ``(num_paths,)``, float64, and end points ``(num_paths, *event)`` of paths from N(0, I) down to level 0.

    Args:
        path: grid and kernels from :func:`plan_reverse_path`.
        num_paths: number of independent paths.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> path = plan_reverse_path(system.model, system.sample(64, 0), steps_per_level=2)
    >>> weights, ends = forward_weights(path, 8)
    >>> weights.shape, ends.shape
    (torch.Size([8]), torch.Size([8, 2]))
    """
    parts = [_downward(path, count, generator) for count in chunk_sizes(num_paths, path.max_rows)]
    return torch.cat([weights for weights, _ in parts]).cpu(), torch.cat([ends for _, ends in parts])


@outside_inference_mode
def reverse_weights(path: ReversePath, draws: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Log weights ``(n,)``, float64, of paths that noise draws of level 0 up to level T.

    Args:
        path: grid and kernels from :func:`plan_reverse_path`.
        draws: rows ``(n, *event)``, taken for draws of level 0.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> path = plan_reverse_path(system.model, system.sample(64, 0), steps_per_level=2)
    >>> reverse_weights(path, system.sample(8, 0)).shape
    torch.Size([8])
    """
    rows = draws.to(path.model.device, path.model.dtype)
    return torch.cat([_upward(path, part, generator) for part in rows.split(path.max_rows)]).cpu()


def _downward(path: ReversePath, num_paths: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    model = path.model
    shape = (num_paths, *model.event_shape)
    x = normal_draws(shape, model, generator)
    unit = torch.ones(len(path.axes), dtype=torch.float64, device=x.device)
    weights = -_normal(x, unit)
    for index in range(path.num_steps - 1, -1, -1):
        step_alpha, step_sigma, _ = path.steps[index]
        mean = _reverse_mean(path, x, index)
        noise = normal_draws((num_paths, len(path.axes)), x, generator)
        below = mean + ((path.spreads[index].to(x) * noise) @ path.axes.T).reshape(shape)
        weights = weights + _normal((x - step_alpha * below) / step_sigma, step_sigma * unit)
        weights = weights - _normal(noise, path.spreads[index])
        x = below
    with torch.no_grad():
        return weights + model.log_density(x, 0).double(), x


def _upward(path: ReversePath, x: Tensor, generator: torch.Generator | None) -> Tensor:
    model = path.model
    unit = torch.ones(len(path.axes), dtype=torch.float64, device=x.device)
    with torch.no_grad():
        weights = model.log_density(x, 0).double()
    for index, (step_alpha, step_sigma, _) in enumerate(path.steps):
        noise = normal_draws(x.shape, x, generator)
        above = step_alpha * x + step_sigma * noise
        mean = _reverse_mean(path, above, index)
        weights = weights + _normal(noise, step_sigma * unit) - path.kernel_log_density(x - mean, index)
        x = above
    return weights - _normal(x, unit)


def _reverse_mean(path: ReversePath, x: Tensor, index: int) -> Tensor:
    """Mean of the cleaner state given the noisier one, by Tweedie's formula for one step."""
    step_alpha, step_sigma, log_snr = path.steps[index]
    if index == path.num_steps - 1:
        return step_alpha * x  # the top is N(0, I): its score is -x, and 1 - s^2 = a^2
    score = value_and_gradient(lambda rows: path.model.log_density_at(rows, log_snr), x)[1]
    return (x + step_sigma**2 * score) / step_alpha


def _normal(whitened: Tensor, spread: Tensor) -> Tensor:
    """Log density of N(0, diag(spread^2)) at ``spread * whitened``, float64."""
    flat = whitened.flatten(1).double()
    return -0.5 * flat.square().sum(1) - spread.double().log().sum() - 0.5 * flat.shape[1] * math.log(2 * math.pi)
