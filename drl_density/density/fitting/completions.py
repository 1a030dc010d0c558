r"""Draws of the missing values that training starts from, and the score of held-out rows with missing values.

Values are assumed to be missing at random: for reasons that the observed values explain. Training sees rows completed by
draws. Every evaluation moves the draws by transitions that leave the model's own conditional invariant, so that model and
draws come to agree (stochastic approximation of EM; Delyon, Lavielle and Moulines 1999). Held-out rows are scored by the
density of the observed values, :math:`p(x_o) = E_q[p(x_o, x_m) / q(x_m \mid x_o)]`, with q the best fixed base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.bases import Base, NoisedGaussianMixture
from drl_density.bases.fitting import error_of_mean
from drl_density.density.fitting.bases import ChosenBases, choose_bases
from drl_density.schedule import NoiseSchedule
from drl_density.weights import log_mean_exp

MOST_COMPLETED_ROWS = 4096
"""Completed training rows at which the number of copies stops growing; bases do not improve with more."""

MOST_COPIES = 8
"""Completed copies of a small table; each has its own draws of the missing values."""

NUM_COMPLETIONS = 8
"""Completions of each held-out row, whose weights estimate the density of its observed values."""


class HeldOutMean(NamedTuple):
    """A mean over held-out rows.

    Attributes:
        value: Mean, in nats a row.
        standard_error: Its standard error over distinct rows of the table; infinite for a single one.
    """

    value: float
    standard_error: float


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows in model space.

    Attributes:
        rows: Complete rows ``(n, d)``; with missing values ``(n * k, d)``, the k completions of a row in succession.
        log_proposal: Log density of each completion under its proposal ``(n, k)``, or None for complete rows.
        source: Index ``(n,)`` of the row of the table that each held-out row is a copy of, since a small table is repeated
            with fresh noise and a weighted one is drawn from; None where all are distinct.
    """

    rows: Tensor
    log_proposal: Tensor | None = None
    source: Tensor | None = None

    def by_row(self, log_density: Tensor) -> Tensor:
        """Log density of the observed values of every held-out row, ``(n,)``, float64.

        Args:
            log_density: Log density of each of :attr:`rows`, ``(len(rows),)``.
        """
        values = log_density.double()
        if self.log_proposal is None:
            return values
        return log_mean_exp(values.reshape(self.log_proposal.shape) - self.log_proposal)

    def mean(self, log_density: Tensor) -> Tensor:
        """Mean over rows of the log density of the observed values.

        Args:
            log_density: Log density of each of :attr:`rows`, ``(len(rows),)``.
        """
        return self.by_row(log_density).mean()

    def summarize(self, values: Tensor) -> HeldOutMean:
        """Mean of one value for each held-out row, such as a difference of two results of :meth:`by_row`.

        The error is that of :func:`~drl_density.bases.fitting.error_of_mean`, which counts copies of a row as one.

        Args:
            values: Values of the held-out rows ``(n,)``.

        >>> held_out = HeldOut(torch.zeros(4, 1), source=torch.tensor([0, 1, 0, 1]))
        >>> held_out.summarize(torch.tensor([0.0, 2.0, 0.0, 2.0]))
        HeldOutMean(value=1.0, standard_error=1.0)
        """
        return HeldOutMean(float(values.double().mean()), error_of_mean(values, self.source))


@dataclass(frozen=True)
class Completion:
    """Fixed bases fitted to rows with missing values, and draws of these values.

    Attributes:
        bases: Bases chosen on completed rows.
        drawn: Draws in model space, ``(copies, n, d)``; only entries of missing values have a meaning.
    """

    bases: ChosenBases
    drawn: Tensor


def complete(train: Tensor, validation: Tensor, *, kind: str, num_rounds: int = 20, seed: int = 0) -> Completion:
    """Bases for model-space rows with missing values, and draws of these values.

    Fills the missing values from independent columns, then alternates between fitting a Gaussian and redrawing. Chooses
    bases on the result, redraws from the best of them, and repeats that step once.

    Args:
        train: Training rows ``(n, d)`` with NaN for missing values.
        validation: Validation rows ``(m, d)`` with NaN for missing values.
        kind: Kind of base, see :func:`~drl_density.density.fitting.bases.choose_bases`.
        num_rounds: Alternations with the Gaussian.
        seed: Seed of the draws and of the mixture fits.
    """
    generator = torch.Generator().manual_seed(seed)
    is_missing = train.isnan()
    observed = torch.where(is_missing, 0.0, train)
    copies = max(1, min(MOST_COPIES, MOST_COMPLETED_ROWS // len(train)))

    def draw(base: Base) -> Tensor:
        return base.conditional().sample(observed, is_missing, copies, generator=generator).transpose(0, 1)

    drawn = draw(NoisedGaussianMixture.standard(train.shape[1]))
    for _ in range(num_rounds):
        u = drawn.flatten(0, 1)
        # The ridge keeps the covariance of duplicated or constant columns invertible.
        covariance = u.T.cov() + 1e-4 * torch.eye(u.shape[1], dtype=u.dtype)
        drawn = draw(NoisedGaussianMixture(torch.ones(1), u.mean(0)[None], covariance[None]))
    bases = choose_bases(drawn.flatten(0, 1), validation, kind=kind, num_copies=copies, seed=seed)
    drawn = draw(bases.best)
    bases = choose_bases(drawn.flatten(0, 1), validation, kind=kind, num_copies=copies, seed=seed)
    return Completion(bases, draw(bases.best).float())


def weigh_completions(
    u: Tensor,
    is_missing: Tensor,
    base: Base,
    sigma: float,
    *,
    seed: int,
    num_completions: int = NUM_COMPLETIONS,
) -> HeldOut:
    """Held-out rows completed from ``base`` at noise ``sigma``, with the log density of each completion.

    Args:
        u: Rows ``(n, d)`` in model space, with any finite value where one is missing.
        is_missing: Mask of the missing values, ``(n, d)``.
        base: Base that proposes the completions.
        sigma: Noise level of the proposal.
        seed: Seed of the draws.
        num_completions: Completions of each row.
    """
    law = base.conditional(NoiseSchedule.log_spaced(1, sigma_min=sigma).log_snr[0])
    generator = torch.Generator().manual_seed(seed)
    completed = law.sample(u, is_missing, num_completions, generator=generator).flatten(0, 1).float()
    is_observed = torch.zeros_like(completed, dtype=torch.bool)
    joint = law.observed_log_density(completed, is_observed).reshape(-1, num_completions)
    return HeldOut(completed, joint - law.observed_log_density(u, is_missing)[:, None])
