r"""Gaussian reverse kernels of a grid of noise levels, with variances measured on rows.

The kernel from the noisier state y to the cleaner state x of a step is normal with mean :math:`c_y y + c_0 \hat x_0(y)`, in
which :math:`\hat x_0(y) = (y + \sigma^2 \nabla F(y)) / \alpha` estimates the clean row. Its variance per coordinate is

.. math:: v + c_0^2\, \overline{(x_0 - \hat x_0)^2}

with the small variance v of the step. For draws of the model it is the variance of x given y, averaged over y, by the law of
total variance; for any other variance the weights stay valid and scatter more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.mcmc import value_and_gradient
from drl_density.model import EnergySequence
from drl_density.partition_function.sequence_paths.noise_grid import NoiseGrid

POOLED_SHARE = 0.5
"""Share of the mean over coordinates in every coordinate's squared error, which few rows leave uncertain."""
MAX_ROWS = 2048
"""Largest number of rows in one pass."""


@dataclass(frozen=True, eq=False)
class ReverseKernels:
    """A grid of noise levels with its reverse kernels, fixed before any path is walked.

    Attributes:
        model: sequence whose level 0 is the target.
        grid: noise levels from 0 to T.
        errors: mean squared error of the estimate of the clean row at the noisier end of every step, per coordinate of the
            flattened point, ``(N, d)``, float64.
        uses_top_score: whether the last step takes the model's score at level T, and not that of N(0, I).
        max_rows: largest number of rows in one pass.
    """

    model: EnergySequence
    grid: NoiseGrid
    errors: Tensor
    uses_top_score: bool
    max_rows: int = MAX_ROWS

    @cached_property
    def variances(self) -> Tensor:
        """Variance of every step's kernel per coordinate, ``(N, d)``, float64."""
        return self.grid.small_variances[:, None] + self.grid.clean_factors.square()[:, None] * self.errors

    @cached_property
    def _placed(self) -> tuple[Tensor, Tensor]:
        """Standard deviations ``(N, d)`` and summed log standard deviations ``(N,)`` in the type of the model."""
        like = torch.empty(0, dtype=self.model.dtype, device=self.model.device)
        return self.variances.sqrt().to(like), 0.5 * self.variances.log().sum(1)

    def evaluate(self, x: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Log density of a grid point, float64 on the CPU ``(n,)``, and the score that the step below it uses.

        The density at the last point is N(0, I) itself, so that paths begin with equal weights.

        Args:
            x: states ``(n, *event)`` of the grid point ``index``.
            index: number of the grid point, 0 for level 0.
        """
        is_top = index == self.grid.num_steps
        if is_top and not self.uses_top_score:
            return standard_normal(x), -x
        log_snr = self.grid.log_snrs[index]
        parts = [
            value_and_gradient(lambda rows: self.model.log_density_at(rows, log_snr), part)
            for part in x.split(self.max_rows)
        ]
        values, scores = (torch.cat(part) for part in zip(*parts, strict=True))
        return standard_normal(x) if is_top else values.double().cpu(), scores

    def clean_rows(self, x: Tensor, score: Tensor, index: int) -> Tensor:
        """Estimate of the clean row from states of a grid point and their score, by Tweedie's formula."""
        return (x + float(self.grid.noises[index]) * score) / float(self.grid.alphas[index])

    def mean(self, x: Tensor, score: Tensor, step: int) -> Tensor:
        """Mean of the cleaner state of a step, from its noisier state and score."""
        grid = self.grid
        return float(grid.noisy_factors[step]) * x + float(grid.clean_factors[step]) * self.clean_rows(
            x, score, step + 1
        )

    def draw(self, mean: Tensor, step: int, generator: torch.Generator | None) -> Tensor:
        """A draw of the cleaner state around its mean."""
        noise = normal_draws(mean.shape, mean, generator)
        return mean + self._placed[0][step].reshape(mean.shape[1:]) * noise

    def log_ratio(self, cleaner: Tensor, noisier: Tensor, mean: Tensor, step: int) -> Tensor:
        """Log density of the noising step less that of the reverse kernel, float64 on the CPU ``(n,)``."""
        grid, (spreads, log_spread) = self.grid, self._placed
        variance = float(grid.step_variances[step])
        up = ((noisier - float(grid.step_alphas[step]) * cleaner) / math.sqrt(variance)).flatten(1)
        down = (cleaner - mean).flatten(1) / spreads[step]
        # Both have the same number of coordinates, so the constants of the normal density cancel.
        quadratic = (down.square() - up.square()).double().sum(1).cpu()
        return 0.5 * quadratic + float(log_spread[step]) - 0.5 * down.shape[1] * math.log(variance)

    def noised(self, x: Tensor, step: int, generator: torch.Generator | None) -> Tensor:
        """The noisier state of a step from its cleaner one."""
        a, variance = float(self.grid.step_alphas[step]), float(self.grid.step_variances[step])
        return a * x + math.sqrt(variance) * normal_draws(x.shape, x, generator)


def standard_normal(x: Tensor) -> Tensor:
    """Log density of N(0, I) at rows ``(n, *event)``, float64 on the CPU, ``(n,)``.

    >>> round(float(standard_normal(torch.zeros(1, 2))), 4)
    -1.8379
    """
    flat = x.flatten(1)
    return -0.5 * (flat.square().double().sum(1) + flat.shape[1] * math.log(2 * math.pi)).cpu()


class PlanningRows(NamedTuple):
    """Rows that serve to plan paths and are never walked from.

    Attributes:
        clean: clean rows, or their estimates from the states, ``(n, *event)``.
        states: the same rows at level 0, with its noise, ``(n, *event)``.
        unknown: mean squared error of ``clean`` per coordinate of the flattened point, ``(d,)``; zero for data.
    """

    clean: Tensor
    states: Tensor
    unknown: Tensor


def measure_kernels(
    model: EnergySequence,
    grid: NoiseGrid,
    rows: PlanningRows,
    *,
    generator: torch.Generator | None = None,
    max_rows: int = MAX_ROWS,
) -> ReverseKernels:
    """Kernels whose variances come from the squared error of the clean rows' estimates at every grid point.

    The rows serve the kernels alone. Paths that begin at rows of which the variances were measured would be biased.

    Args:
        model: sequence whose level 0 is the target.
        grid: noise levels.
        rows: at least 2 rows; their states get fresh noise at each grid point.
        max_rows: largest number of rows in one pass.

    Raises:
        ValueError: fewer than two rows.

    >>> from drl_density.partition_function.sequence_paths.noise_grid import even_grid
    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> grid = even_grid(system.model.schedule, 16)
    >>> rows = noised_rows(system.model, torch.randn(32, 2))
    >>> measure_kernels(system.model, grid, rows).variances.shape
    torch.Size([16, 2])
    """
    if len(rows.clean) < 2:
        raise ValueError(f"expected at least two rows, whose errors set the variances, got {len(rows.clean)}")
    clean, states, _ = rows
    bare = ReverseKernels(model, grid, rows.unknown.expand(grid.num_steps, -1), True, max_rows)
    errors, uses_top_score = [], True
    for index in range(1, grid.num_steps + 1):
        signal = float(grid.alphas[index] / grid.alphas[0])
        noise = float(grid.noises[index] * -torch.expm1(grid.log_snrs[index] - grid.log_snrs[0]))
        x = signal * states + math.sqrt(noise) * normal_draws(states.shape, states, generator)
        _, score = bare.evaluate(x, index)
        errors.append(_squared(clean - bare.clean_rows(x, score, index)))
        if index == grid.num_steps:
            by_known_top = _squared(clean - bare.clean_rows(x, -x, index))
            uses_top_score = bool(errors[-1].mean() < by_known_top.mean())
            errors[-1] = errors[-1] if uses_top_score else by_known_top
    measured = rows.unknown + pooled(smoothed(torch.stack(errors)))
    return ReverseKernels(model, grid, measured, uses_top_score, max_rows)


def noised_rows(model: EnergySequence, rows: Tensor, *, generator: torch.Generator | None = None) -> PlanningRows:
    """Rows of data ``(n, *event)`` with the noise of level 0 added."""
    clean = rows.to(model.device, model.dtype)
    unknown = torch.zeros(clean[0].numel(), dtype=torch.float64)
    return PlanningRows(clean, model.schedule.diffuse(clean, 0, generator=generator), unknown)


def _squared(gap: Tensor) -> Tensor:
    """Mean squared gap of every coordinate, ``(d,)``, float64 on the CPU."""
    return gap.flatten(1).double().square().mean(0).cpu()


def pooled(errors: Tensor) -> Tensor:
    """Squared errors ``(N, d)`` of coordinates, each drawn halfway to the mean over all.

    >>> pooled(torch.tensor([[1.0, 3.0]])).tolist()
    [[1.5, 2.5]]
    """
    return (1 - POOLED_SHARE) * errors + POOLED_SHARE * errors.mean(1, keepdim=True)


def smoothed(errors: Tensor) -> Tensor:
    """Squared errors ``(N, d)`` averaged in the logarithm over five neighbouring steps, along which they change slowly.

    >>> smoothed(torch.ones(6, 2)).tolist() == torch.ones(6, 2).tolist()
    True
    """
    if len(errors) < 5:
        return errors
    # At most 1e-30 is added, so that the logarithm of an error of exactly zero is finite.
    logs = torch.nn.functional.pad((errors + 1e-30).log().T[None], (2, 2), mode="replicate")
    return torch.nn.functional.avg_pool1d(logs, 5, 1)[0].T.exp()
