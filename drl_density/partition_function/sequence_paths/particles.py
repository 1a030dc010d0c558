r"""Walks along a grid of noise levels: paths with weights in both directions, and particles that are resampled.

A path has the log weight :math:`\sum_n \Delta_n` with the increment of every step

.. math:: \Delta_n = F_n(x_n) - F_{n+1}(x_{n+1}) + \log q(x_{n+1} \mid x_n) - \log r_n(x_n \mid x_{n+1})

in which q is the noising step, r the reverse kernel, and F at the noisiest grid point the log density of N(0, I). Only F of
level 0 is the target. An error at any other level cancels between two increments and costs variance, never bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.devices import generator_device, normal_draws
from drl_density.errors import NumericalError
from drl_density.partition_function.sequence_paths.kernels import ReverseKernels
from drl_density.weights import log_mean_exp, resample, weight_ess

RESAMPLE_BELOW = 0.5
"""Effective share of the particles below which they are resampled."""

OnStep = Callable[[int, int, Tensor], None]
"""What is called after every step: steps done, steps in all, and the log weights ``(replicate, particle)``."""


@dataclass(frozen=True, eq=False)
class PathWeights:
    """Weights of paths that are never resampled.

    Attributes:
        increments: increment of every step of every path, nats, ``(replicate, path, N)``, float64.
    """

    increments: Tensor

    @property
    def log_weights(self) -> Tensor:
        """Log weight of every path, nats, ``(replicate, path)``."""
        return self.increments.sum(-1)


@dataclass(frozen=True, eq=False)
class ParticleRun:
    """Particles that walked down to level 0 and were resampled wherever their weights had become uneven.

    Attributes:
        log_weights: final log weights, nats, ``(replicate, particle)``; they include the mean weights of all resampling.
        particles: states at level 0, ``(replicate, particle, *event)``.
        ess_shares: effective share of the particles after every step, before resampling, ``(N, replicate)``.
    """

    log_weights: Tensor
    particles: Tensor
    ess_shares: Tensor

    @property
    def log_z(self) -> Tensor:
        """Log mean weight of every replicate, nats, ``(replicate,)``."""
        return log_mean_exp(self.log_weights, 1)

    def draws(self, *, generator: torch.Generator | None = None) -> Tensor:
        """Particles resampled by their final weights, ``(replicate, particle, *event)``.

        All replicates are resampled together, so that one with more weight gives more draws. Within each replicate alone the
        draws of few particles would lean towards the proposal: their reverse paths then weigh too little. Systematic
        resampling keeps the order, so a row of the result comes from one replicate or two neighbouring ones.
        """
        chosen = resample(self.log_weights.flatten(), self.log_weights.numel(), generator=generator)
        return self.particles.flatten(0, 1)[chosen.to(self.particles.device)].reshape(self.particles.shape)


def paths_down(
    kernels: ReverseKernels,
    shape: tuple[int, int],
    *,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> PathWeights:
    """Independent paths from N(0, I) down to level 0; the mean of their weights is Z for any kernels.

    Args:
        kernels: grid and reverse kernels.
        shape: replicates, and paths in each.
        on_step: called after every step.
    """
    increments: list[Tensor] = []

    def keep(weights: Tensor, increment: Tensor) -> None:
        increments.append(increment)

    _walk_down(kernels, shape, None, None, keep, generator, on_step)
    return PathWeights(torch.stack(increments[::-1], -1))


def particles_down(
    kernels: ReverseKernels,
    shape: tuple[int, int],
    *,
    retained: Tensor | None = None,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> ParticleRun:
    """Particles that walk from N(0, I) down to level 0 and are resampled: sequential Monte Carlo.

    The mean weight of a replicate is unbiased for Z, so its logarithm is a stochastic lower bound of log Z. With a retained
    path per replicate the run is conditional: the path is particle 0, whatever its weight, and the others are drawn around
    it. The inverse mean weight is then unbiased for 1 / Z as far as the path's end is a draw of the target, which makes its
    logarithm a stochastic upper bound.

    Args:
        kernels: grid and reverse kernels.
        shape: replicates, and particles in each.
        retained: one path per replicate, level 0 first, ``(N + 1, replicate, *event)``.
        on_step: called after every step.

    Source: Del Moral, Doucet and Jasra 2006; Andrieu, Doucet and Holenstein 2010 for the conditional run.
    """
    shares: list[Tensor] = []

    def keep(weights: Tensor, increment: Tensor) -> None:
        shares.append(weight_ess(weights) / shape[1])

    weights, states = _walk_down(kernels, shape, RESAMPLE_BELOW, retained, keep, generator, on_step)
    return ParticleRun(weights, states.reshape(*shape, *states.shape[1:]), torch.stack(shares))


def paths_up(
    kernels: ReverseKernels, starts: Tensor, *, generator: torch.Generator | None = None, on_step: OnStep | None = None
) -> PathWeights:
    """Paths that noise states of level 0 up to level T; the mean inverse weight is 1 / Z for draws of the target.

    Args:
        kernels: grid and reverse kernels.
        starts: states of level 0, ``(replicate, path, *event)``.
        on_step: called after every step.
    """
    shape, grid = starts.shape[:2], kernels.grid
    x = starts.flatten(0, 1).to(kernels.model.device, kernels.model.dtype)
    value, _ = kernels.evaluate(x, 0)
    increments, total = [], torch.zeros(shape, dtype=torch.float64)
    for step in range(grid.num_steps):
        above = kernels.noised(x, step, generator)
        next_value, score = kernels.evaluate(above, step + 1)
        mean = kernels.mean(above, score, step)
        increment = (value - next_value + kernels.log_ratio(x, above, mean, step)).reshape(shape)
        increments.append(_checked(increment, kernels, step))
        x, value, total = above, next_value, total + increment
        if on_step is not None:
            on_step(step + 1, grid.num_steps, total)
    return PathWeights(torch.stack(increments, -1))


def noised_path(kernels: ReverseKernels, starts: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """States of level 0 ``(replicate, *event)`` with everything above them on the grid, ``(N + 1, replicate, *event)``."""
    path = [starts.to(kernels.model.device, kernels.model.dtype)]
    for step in range(kernels.grid.num_steps):
        path.append(kernels.noised(path[-1], step, generator))
    return torch.stack(path)


def _walk_down(
    kernels: ReverseKernels,
    shape: tuple[int, int],
    resample_below: float | None,
    retained: Tensor | None,
    keep: Callable[[Tensor, Tensor], None],
    generator: torch.Generator | None,
    on_step: OnStep | None,
) -> tuple[Tensor, Tensor]:
    """Final log weights ``(replicate, particle)`` and states ``(replicate * particle, *event)`` of one walk down.

    Args:
        kernels: grid and reverse kernels.
        shape: replicates, and particles in each.
        resample_below: effective share below which a replicate is resampled; None never resamples.
        retained: path of particle 0 of each replicate.
        keep: called with log weights and increments ``(replicate, particle)`` after every step.
        on_step: called with the progress after every step.
    """
    (num_replicates, count), num_steps = shape, kernels.grid.num_steps
    first = count * torch.arange(num_replicates)
    x = normal_draws((num_replicates * count, *kernels.model.event_shape), kernels.model, generator)
    if retained is not None:
        x[first] = retained[-1]
    value, score = kernels.evaluate(x, num_steps)
    weights = torch.zeros(shape, dtype=torch.float64)
    for step in reversed(range(num_steps)):
        if resample_below is not None:
            is_poor = weight_ess(weights) < resample_below * count
            if bool(is_poor.any()):
                chosen, weights = _resampled(weights, is_poor, generator, is_conditional=retained is not None)
                x, score = x[chosen.to(x.device)], score[chosen.to(x.device)]
                value = value[chosen]
        mean = kernels.mean(x, score, step)
        below = kernels.draw(mean, step, generator)
        if retained is not None:
            below[first] = retained[step]
        next_value, next_score = kernels.evaluate(below, step)
        increment = (next_value - value + kernels.log_ratio(below, x, mean, step)).reshape(shape)
        weights = weights + _checked(increment, kernels, step)
        x, value, score = below, next_value, next_score
        if on_step is not None:
            on_step(num_steps - step, num_steps, weights)
        keep(weights, increment)
    return weights, x


def _resampled(
    weights: Tensor, is_poor: Tensor, generator: torch.Generator | None, *, is_conditional: bool
) -> tuple[Tensor, Tensor]:
    """Indices into all particles, flattened, after resampling the poor replicates, and the log weights afterwards.

    A conditional run keeps particle 0 of every replicate and draws the others independently by weight, as it must.
    """
    count = weights.shape[1]
    chosen = torch.arange(count).expand_as(weights).clone()
    if is_conditional:
        home = generator_device(generator)
        shares = torch.softmax(weights[is_poor], 1).to(home)
        drawn = torch.multinomial(shares, count, replacement=True, generator=generator).cpu()
        drawn[:, 0] = 0
    else:
        drawn = resample(weights[is_poor], count, generator=generator)
    chosen[is_poor] = drawn
    mean_weight = log_mean_exp(weights, 1)[:, None].expand_as(weights)
    offsets = count * torch.arange(len(weights))[:, None]
    return (chosen + offsets).flatten(), torch.where(is_poor[:, None], mean_weight, weights)


def _checked(increment: Tensor, kernels: ReverseKernels, step: int) -> Tensor:
    """The increments, refused where the model's density or score is not a finite number.

    Raises:
        NumericalError: an increment that is not finite.
    """
    if not bool(increment.isfinite().all()):
        share = float((~increment.isfinite()).double().mean())
        raise NumericalError(
            f"{share:.2g} of the paths have no finite weight at level {float(kernels.grid.levels[step]):.3g}: the model's "
            "log density or its gradient is not a finite number there; train longer, or use a smaller learning rate"
        )
    return increment
