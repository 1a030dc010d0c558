"""Pairs of states at two noise levels, and the chains that draw the cleaner one given the noisier one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.execution import chain_passes
from drl_density.mcmc import Kernel, take_steps
from drl_density.model import EnergySequence
from drl_density.shapes import per_row

SHARED_NOISE_REFUSAL = (
    "chains started at the data need Markov pairs: if x_t and x_{t+1} share one noise, x_t is not a draw of "
    "p(x_t | x_{t+1}), and the true density is not a stationary point. Use shares_noise=False, or start every chain at the "
    "noisier state or at a proposal of the initialiser"
)


class ChainEnds(NamedTuple):
    """Ends of short chains, without gradient.

    Attributes:
        position: last states ``(batch, *event)``.
        acceptance_rate: mean acceptance probability of each chain ``(batch,)``, one for unadjusted kernels.
    """

    position: Tensor
    acceptance_rate: Tensor


def draw_pairs(
    model: EnergySequence,
    x: Tensor,
    level: Tensor,
    noisier: Tensor,
    *,
    shares_noise: bool = False,
    has_clean_rows: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Draw (x_level, x_noisier) of clean rows, either as a Markov pair or both from one noise.

    One noise for both keeps both marginals, and the gradient of recovery likelihood depends on these alone. It lowers the
    variance of the gradient, but breaks the coupling that lets a chain start at x_level (Zhu et al. 2024, noise variance
    reduction).

    Args:
        model: the sequence, of which only the schedule is used.
        x: clean rows ``(batch, *event)``.
        level: continuous level of each row ``(batch,)``.
        noisier: level of the noisier state of each row ``(batch,)``.
        shares_noise: whether both states come from one noise.
        has_clean_rows: whether the cleaner state of level 0 is the row itself, without the noise of that level; only for
            Markov pairs.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> levels = torch.tensor([0.0, 3.0])
    >>> clean, noisier = draw_pairs(model, torch.zeros(2, 2).double(), levels, levels + 1)
    >>> clean.shape, noisier.shape
    (torch.Size([2, 2]), torch.Size([2, 2]))
    """
    schedule = model.schedule
    if not shares_noise:
        clean = schedule.diffuse(x, level, generator=generator)
        if has_clean_rows:
            clean = torch.where(per_row(level == 0, x), x, clean)
        return clean, schedule.diffuse_step(clean, level, noisier, generator=generator)
    noise = normal_draws(x.shape, x, generator)

    def noised(place: Tensor) -> Tensor:
        alpha, sigma = (per_row(value(place).to(x), x) for value in (schedule.alpha_at, schedule.sigma_at))
        return alpha * x + sigma * noise

    return noised(level), noised(noisier)


def short_chains(
    model: EnergySequence,
    kernel: Kernel,
    start: Tensor,
    log_density: Callable[[Tensor], Tensor],
    step_size: Tensor,
    num_steps: int,
    *,
    generator: torch.Generator | None = None,
) -> ChainEnds:
    """Run one short chain per row; the network's weights stay fixed meanwhile.

    Args:
        model: the sequence whose network ``log_density`` evaluates.
        kernel: Markov kernel of the chains.
        start: first states ``(batch, *event)``.
        log_density: unnormalised log density of each row's target.
        step_size: step size of each row ``(batch,)``.
        num_steps: number of kernel steps, at least 1.
    """
    with chain_passes(model, is_adjusted=kernel.is_adjusted):
        taken = take_steps(
            kernel,
            kernel.init(start, log_density),
            log_density,
            num_steps=num_steps,
            step_size=step_size,
            generator=generator,
        )
    return ChainEnds(taken.state.position, taken.acceptance_rate.to(step_size))
