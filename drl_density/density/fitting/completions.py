r"""Fitting on rows with holes: first draws of the missing cells, their renewal while training goes on, held-out scores.

Missing cells are assumed missing at random: for reasons that the observed cells tell. Training sees rows completed by
draws; every evaluation moves the draws on by transitions that leave the model's own conditional invariant, so that model
and draws come to agree (stochastic approximation of EM; Delyon, Lavielle and Moulines 1999). Held-out rows are scored by
the density of what was observed, :math:`p(x_o) = E_q[p(x_o, x_m) / q(x_m \mid x_o)]`, with q the best fixed base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drl_density.bases import Base, NoisedGaussianMixture
from drl_density.density.fitting.bases import ChosenBases, choose_bases
from drl_density.schedule import NoiseSchedule
from drl_density.weights import log_mean_exp

if TYPE_CHECKING:
    pass

MOST_DRAWN, MOST_COPIES, NUM_COMPLETIONS = 4096, 8, 8


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows in model space.

    Attributes:
        rows: complete rows ``(n, d)``; with holes ``(n * k, d)``, k completions of each row one after the other.
        log_proposal: log density of each completion under what drew it ``(n, k)``, or None without holes.
    """

    rows: Tensor
    log_proposal: Tensor | None = None

    def mean(self, log_density: Tensor) -> Tensor:
        """Mean over rows of the log density of what was observed, given that of ``rows`` ``(len(rows),)``."""
        if self.log_proposal is None:
            return log_density.mean()
        return log_mean_exp(log_density.double().reshape(self.log_proposal.shape) - self.log_proposal).mean()


def complete(
    train: Tensor, validation: Tensor, *, kind: str, num_rounds: int = 20, seed: int = 0
) -> tuple[ChosenBases, Tensor]:
    """Bases for model-space rows with NaN, and draws of the missing cells.

    Draws from independent columns start; a Gaussian is fitted to the draws and the draws made anew from it by turns; then
    bases are chosen on those draws, once more on draws from the best of them, and the draws made a last time.

    Args:
        train: rows ``(n, d)``, NaN in holes.
        validation: rows ``(m, d)``, NaN in holes.
        kind: of base, see :func:`~drl_density.density.fitting.bases.choose_bases`.
        num_rounds: turns with the Gaussian.
        seed: of the draws.

    Returns:
        (bases, draws ``(copy, n, d)`` in which only the missing cells mean anything).
    """
    generator = torch.Generator().manual_seed(seed)
    is_hole = train.isnan()
    seen = torch.where(is_hole, 0.0, train)
    copies = max(1, min(MOST_COPIES, MOST_DRAWN // len(train)))

    def draw(mixture: Base) -> Tensor:
        return mixture.conditional().sample(seen, is_hole, copies, generator=generator).transpose(0, 1)

    drawn = draw(NoisedGaussianMixture.standard(train.shape[1]))
    for _ in range(num_rounds):
        u = drawn.flatten(0, 1)
        covariance = u.T.cov() + 1e-4 * torch.eye(u.shape[1], dtype=u.dtype)
        drawn = draw(NoisedGaussianMixture(torch.ones(1), u.mean(0)[None], covariance[None]))
    for _ in range(2):
        bases = choose_bases(drawn.flatten(0, 1), validation, kind=kind, seed=seed)
        drawn = draw(bases.best)
    return bases, drawn.float()


def weigh_completions(
    u: Tensor, is_hole: Tensor, base: Base, sigma: float, *, seed: int, num: int = NUM_COMPLETIONS
) -> HeldOut:
    """Rows ``(n, d)`` in model space completed ``num`` times from ``base`` at noise ``sigma``."""
    law = base.conditional(NoiseSchedule.log_spaced(1, sigma_min=sigma).log_snr[0])
    completed = law.sample(u, is_hole, num, generator=torch.Generator().manual_seed(seed)).flatten(0, 1).float()
    joint = law.observed_log_density(completed, torch.zeros_like(completed, dtype=torch.bool)).reshape(-1, num)
    return HeldOut(completed, joint - law.observed_log_density(u, is_hole)[:, None])
