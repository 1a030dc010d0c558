"""Adjusted chains at level 0, and rows for planning that a sequence draws itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.mcmc import Kernel, LogDensity, RobbinsMonro, Tuner, take_steps, value_and_gradient
from drl_density.model import EnergySequence
from drl_density.partition_function.sequence_paths.kernels import MAX_ROWS, PlanningRows, ReverseKernels
from drl_density.partition_function.sequence_paths.noise_grid import NoiseGrid

NUM_TUNING = 40
"""Steps that tune a chain's step size, on rows that serve nothing else."""
FIRST_STEP = 1.65
"""Best step size of Langevin chains on standard normal coordinates, before the factor d^(-1/6). Source: Roberts and
Rosenthal 1998."""
NUM_PILOT_STEPS = 100
"""Steps of the chains that follow a pilot without rows of data."""


class Moved(NamedTuple):
    """States after some steps of chains.

    Attributes:
        states: positions in the shape of the starts.
        acceptance: mean acceptance over all steps; 1 where no step was taken.
    """

    states: Tensor
    acceptance: float


@dataclass(frozen=True, eq=False)
class LevelZeroChains:
    """Adjusted chains at level 0 with a step size fixed beforehand.

    Attributes:
        log_density: unnormalised log density of level 0.
        kernel: adjusted kernel with its scale.
        step_size: tuned step size.
        max_rows: largest number of chains in one pass.
    """

    log_density: LogDensity
    kernel: Kernel
    step_size: float
    max_rows: int = MAX_ROWS

    def moved(self, starts: Tensor, num_steps: int, *, generator: torch.Generator | None = None) -> Moved:
        """States after ``num_steps`` steps from ``starts`` ``(replicate, chain, *event)``."""
        parts, rates = [], []
        for rows in starts.flatten(0, 1).split(self.max_rows):
            taken = take_steps(
                self.kernel,
                self.kernel.init(rows, self.log_density),
                self.log_density,
                num_steps=num_steps,
                step_size=self.step_size,
                generator=generator,
            )
            parts.append(taken.state.position)
            rates.append(taken.acceptance_rate)
        acceptance = float(torch.cat(rates).mean()) if num_steps else 1.0
        return Moved(torch.cat(parts).reshape(starts.shape), acceptance)


def tune_chains(
    model: EnergySequence, kernel: Kernel, states: Tensor, *, generator: torch.Generator | None = None
) -> tuple[LevelZeroChains, Tensor]:
    """Chains at level 0 whose scale and step size come from states that serve nothing else, and where those end.

    The scale of a coordinate is the root of the inverse mean squared score, which is its conditional standard deviation
    for a Gaussian. Coordinates of images are so correlated that their marginal spread would be far too wide.

    Args:
        model: sequence whose level 0 is walked on.
        kernel: adjusted kernel.
        states: states of level 0, ``(n, *event)``.

    Returns:
        The chains, and the states after the tuning.
    """

    def log_density(x: Tensor) -> Tensor:
        return model.log_density(x, 0)

    score = value_and_gradient(log_density, states)[1]
    curvature = score.square().mean(0)
    # A coordinate without any score has no scale of its own, and keeps that of N(0, 1).
    scale = torch.where(curvature > 0, curvature.rsqrt(), torch.ones_like(curvature))
    kernel = kernel.with_scale(scale)
    tuner = Tuner(RobbinsMonro(kernel.target_acceptance), FIRST_STEP * states[0].numel() ** (-1 / 6))
    taken = take_steps(
        kernel,
        kernel.init(states, log_density),
        log_density,
        num_steps=NUM_TUNING,
        step_size=tuner,
        generator=generator,
    )
    return LevelZeroChains(log_density, kernel, float(tuner.current)), taken.state.position


def draw_planning_rows(
    model: EnergySequence,
    grid: NoiseGrid,
    kernel: Kernel,
    num_rows: int,
    *,
    generator: torch.Generator | None = None,
) -> PlanningRows:
    r"""Rows for planning, from the model itself: down the levels without weights, then by long adjusted chains.

    The variances of the way down come from its own states. For draws of a level,
    :math:`E(x_0 - \hat x_0)^2 = \sigma^2 / \alpha^2\, (1 - \sigma^2 E\, s^2)` per coordinate, with the score s.

    Args:
        model: sequence that draws its own rows.
        grid: noise levels.
        kernel: adjusted kernel of the chains.
        num_rows: number of rows.
    """
    d = model.event_shape.numel()
    bare = ReverseKernels(model, grid, torch.zeros(grid.num_steps, d, dtype=torch.float64), True)
    x = normal_draws((num_rows, *model.event_shape), model, generator)
    for step in reversed(range(grid.num_steps)):
        _, score = bare.evaluate(x, step + 1)
        error = unexplained(score, float(grid.noises[step + 1]), float(grid.alphas[step + 1]))
        variance = float(grid.small_variances[step]) + float(grid.clean_factors[step]) ** 2 * error
        noise = normal_draws(x.shape, x, generator)
        x = bare.mean(x, score, step) + variance.sqrt().to(x).reshape(x.shape[1:]) * noise
    chains, x = tune_chains(model, kernel, x, generator=generator)
    x = chains.moved(x[None], NUM_PILOT_STEPS, generator=generator).states[0]
    _, score = bare.evaluate(x, 0)
    unknown = unexplained(score, float(grid.noises[0]), float(grid.alphas[0]))
    return PlanningRows(bare.clean_rows(x, score, 0), x, unknown)


def unexplained(score: Tensor, noise: float, alpha: float) -> Tensor:
    """Mean squared error of the clean rows' estimates by the scores alone, per coordinate, ``(d,)``, float64 on the CPU.

    Args:
        score: scores of draws of a level ``(n, *event)``.
        noise: noise variance of the level.
        alpha: signal scale of the level.

    >>> unexplained(torch.tensor([[1.0], [-1.0]]), 0.5, 1.0).tolist()
    [0.25]
    """
    explained = noise * score.flatten(1).double().square().mean(0).cpu()
    # The mean over few states can exceed its expectation, which is at most 1; a variance must not be negative.
    return noise / alpha**2 * (1 - explained).clamp_min(0)
