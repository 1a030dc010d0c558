"""Recovery likelihood as the first paper trains it: short noise-started chains, or one draw from a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.mcmc import Kernel
from drl_density.model import EnergySequence
from drl_density.networks import frozen_power_iteration
from drl_density.records.fields import NonNegativeFloat, PositiveFloat, check_fields
from drl_density.shapes import per_row
from drl_density.training.objectives.classification import classification_loss
from drl_density.training.objectives.langevin_chains import LangevinChains
from drl_density.training.objectives.objective import (
    Batch,
    LevelStatistics,
    ObjectiveValue,
    levels_by_share,
    uniform_levels,
    unlabelled,
)
from drl_density.training.objectives.pairs import SHARED_NOISE_REFUSAL, ChainEnds, draw_pairs


@dataclass(frozen=True)
class LangevinRecovery:
    r"""The paper's loss :math:`-\frac{\sigma_1}{\sigma_{t+1}}\,[\tilde f(y^+) - \tilde f(y^-)]`; t is uniform by default.

    Chains of K > 0 steps are the paper's T6 setting. ``negatives="normal"`` draws y^- from the normal approximation
    :math:`N(x_{t+1} + \sigma^2 \nabla f(x_{t+1}), \sigma^2 I)`, which is the paper's T1k setting (called K = 0).

    Attributes:
        chains: K, step sizes, and whether the topmost level is a marginal density.
        negatives: "langevin" for the ends of chains, "normal" for the normal approximation.
        start: where chains start: "noisier" (as in the paper) or "data".
        shares_noise: whether x_t and x_{t+1} come from one noise, see :func:`~drl_density.training.draw_pairs`.
        level_shares: relative share of the rows at each level; None for equal shares, as in the paper. Losses of rows are
            not divided by it, so that a level counts as much as it has rows.
        classification_weight: factor of noise-level classification, which the paper does not have.

    Raises:
        ValueError: shared noise with chains that start at the data, a temperature, chains without steps, a normal
            approximation of a marginal top, or a misspelt choice.

    Source: Gao et al. 2021, algorithm 1, and release (``training_losses``).

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> objective = LangevinRecovery(chains=LangevinChains(num_steps=2))
    >>> objective(model, torch.randn(16, 2).double(), torch.full((8,), 0.8)).loss.shape
    torch.Size([])
    """

    chains: LangevinChains = field(default_factory=LangevinChains)
    negatives: Literal["langevin", "normal"] = "langevin"
    start: Literal["noisier", "data"] = "noisier"
    shares_noise: bool = False
    level_shares: tuple[PositiveFloat, ...] | None = None
    classification_weight: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.shares_noise and self.start == "data":
            raise ValueError(SHARED_NOISE_REFUSAL)
        self.chains.check_trains()
        if self.negatives == "normal" and self.chains.is_top_marginal:
            raise ValueError(
                "a marginal top level has no conditional to approximate: give LangevinChains(is_top_marginal=False)"
            )
        if self.negatives == "langevin" and self.chains.num_steps < 1:
            raise ValueError('chains need at least one step; for K = 0 give negatives="normal"')

    @property
    def kernel(self) -> Kernel:
        """Kernel of the chains, whose step sizes are prescribed and never adapted."""
        return self.chains.kernel

    def __call__(
        self, model: EnergySequence, x: Batch, step_sizes: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Evaluate the objective on clean rows.

        Args:
            x: clean rows ``(batch, *event)``, without labels.
            step_sizes: not used; the steps are prescribed.

        Raises:
            ValueError: shares for another number of levels.
        """
        rows = unlabelled(x)
        levels = self._levels(len(rows), model.num_levels, generator).to(rows.device)
        clean, x_noisier = draw_pairs(
            model, rows, levels, levels + 1, shares_noise=self.shares_noise, generator=generator
        )
        negatives = self.draw(model, clean, x_noisier, levels, generator=generator)
        value = weighted_contrast(model, clean, negatives, levels, self.chains)
        if self.classification_weight:
            term = classification_loss(model, rows, generator=generator)
            value = value.plus("classification", term, self.classification_weight)
        return value

    def _levels(self, num_rows: int, num_levels: int, generator: torch.Generator | None) -> Tensor:
        if self.level_shares is None:
            return uniform_levels(num_rows, num_levels, generator=generator)
        if len(self.level_shares) != num_levels:
            raise ValueError(f"expected one of level_shares for each of {num_levels} levels, got {len(self.level_shares)}")
        return levels_by_share(num_rows, self.level_shares, generator=generator)

    def draw(
        self,
        model: EnergySequence,
        clean: Tensor,
        x_noisier: Tensor,
        levels: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> ChainEnds:
        """Draw the negatives x_t^-, by chains or from the normal approximation.

        Args:
            clean: states x_t ``(batch, *event)``.
            x_noisier: states x_{t+1} ``(batch, *event)``.
            levels: integer level t of each row ``(batch,)``.
        """
        alpha = per_row(self.chains.step_alpha(model, levels).to(clean), clean)
        if self.negatives == "langevin":
            start = clean if self.start == "data" else x_noisier / alpha
            return self.chains.run(model, start, x_noisier, levels, generator=generator)
        spread = per_row(model.schedule.step_sigma.to(levels.device)[levels].to(clean), clean) / alpha
        center = x_noisier / alpha
        with frozen_power_iteration(model):
            mean = center + spread**2 * model.score(center, levels)
        noise = normal_draws(clean.shape, clean, generator)
        return ChainEnds(mean + spread * noise, torch.ones(len(clean), dtype=clean.dtype, device=clean.device))


def weighted_contrast(
    model: EnergySequence,
    clean: Tensor,
    negatives: ChainEnds,
    levels: Tensor,
    chains: LangevinChains,
    *,
    label: Tensor | None = None,
) -> ObjectiveValue:
    """Loss of positives against negatives, weighted per level as in the papers.

    Args:
        clean: positives x_t ``(batch, *event)``.
        negatives: negatives x_t^-, which are taken as data, without gradient.
        levels: integer level t of each row ``(batch,)``.
        chains: chains that drew the negatives, which define the weights.
        label: label of each row ``(batch,)``, for a network with labels.
    """
    end = negatives.position.detach()
    log_snr = model.schedule.log_snr_at(levels).to(clean)
    labels = None if label is None else torch.cat([label, label])
    both = model.log_density_at(torch.cat([clean, end]), torch.cat([log_snr, log_snr]), labels)
    gap = both[: len(clean)] - both[len(clean) :]
    loss = -(chains.loss_weight(model, levels).to(clean) * gap).mean()
    step_alpha, step_sigma = model.schedule.step_between(levels, levels + 1)
    precision = (step_alpha / step_sigma) ** 2 + model.schedule.sigma_at(levels) ** -2
    jump = (end - clean).square().flatten(1).mean(1) * precision.to(clean)
    statistics = LevelStatistics.of_rows(
        gap.detach(), negatives.acceptance_rate, jump, levels=levels, num_levels=model.num_levels
    )
    return ObjectiveValue(loss, {"recovery": loss.detach()}, statistics)
