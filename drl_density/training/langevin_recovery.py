"""Recovery likelihood as the first paper trains it: short noise-started chains, or one draw of a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from drl_density.devices import generator_device, normal_draws
from drl_density.mcmc import Kernel
from drl_density.model import EnergySequence
from drl_density.networks import frozen_power_iteration
from drl_density.records.literals import check_literals
from drl_density.shapes import per_row
from drl_density.training.langevin_chains import SHARED_NOISE_REFUSAL, LangevinChains, draw_pairs
from drl_density.training.objectives import LevelStatistics, ObjectiveValue, classification_loss, level_means


@dataclass(frozen=True)
class LangevinRecovery:
    r"""The papers' loss :math:`-\frac{\sigma_1}{\sigma_{t+1}}\,[\tilde f(y^+) - \tilde f(y^-)]`, t uniform.

    ``chains.num_steps`` of K > 0 is the T6 setting. ``negatives="normal"`` draws y^- from the normal approximation
    N(x_{t+1} + sigma^2 grad f(x_{t+1}), sigma^2 I), which is the T1k setting (called K = 0).

    Attributes:
        chains: K, step sizes, and whether the topmost level is a marginal.
        negatives: "langevin" or "normal".
        start: where chains begin: "noisier" (the paper's) or "data".
        shares_noise: build x_t and x_{t+1} from one noise.
        classification_weight: factor of noise-level classification, which the papers do not have.

    Raises:
        ValueError: shared noise with data starts, a temperature, or a normal approximation of a marginal top.

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
    classification_weight: float = 0.0

    def __post_init__(self) -> None:
        check_literals(self)
        if self.shares_noise and self.start == "data":
            raise ValueError(SHARED_NOISE_REFUSAL)
        if self.chains.temperature != 1:
            raise ValueError(f"training chains must run at temperature 1, got {self.chains.temperature}")
        if self.negatives == "normal" and self.chains.is_top_marginal:
            raise ValueError(
                "a marginal top level has no conditional to approximate: give LangevinChains(is_top_marginal=False)"
            )
        if self.negatives == "langevin" and self.chains.num_steps < 1:
            raise ValueError('chains need at least one step; for K = 0 give negatives="normal"')

    @property
    def kernel(self) -> Kernel:
        """Of the chains; their step sizes are prescribed and never adapted."""
        return self.chains.kernel

    def __call__(
        self, model: EnergySequence, x: Tensor, step_sizes: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Evaluate on clean rows ``x`` ``(batch, *event)``; ``step_sizes`` of adaptive kernels play no part."""
        device = generator_device(generator)
        levels = torch.randint(model.num_levels, (len(x),), generator=generator, device=device).to(x.device)
        clean, x_noisier = draw_pairs(model, x, levels, levels + 1, shares_noise=self.shares_noise, generator=generator)
        end, acceptance = self.draw(model, clean, x_noisier, levels, generator)
        loss, statistics = contrast(model, (clean, end), levels, self.chains, acceptance)
        parts = {"recovery": loss.detach()}
        if self.classification_weight:
            classification = classification_loss(model, x, generator=generator)
            parts["classification"] = classification.detach()
            loss = loss + self.classification_weight * classification
        return ObjectiveValue(loss, parts, statistics)

    def draw(
        self, model: EnergySequence, clean: Tensor, x_noisier: Tensor, levels: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Negatives x^- and the acceptance of their chains.

        Args:
            model: the sequence.
            clean: x_t, ``(batch, *event)``.
            x_noisier: x_{t+1}.
            levels: t of each row, ``(batch,)``.
            generator: source of randomness.
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
        return mean + spread * noise, torch.ones(len(clean), dtype=clean.dtype, device=clean.device)


def contrast(
    model: EnergySequence,
    states: tuple[Tensor, Tensor],
    levels: Tensor,
    chains: LangevinChains,
    acceptance: Tensor,
    label: Tensor | None = None,
) -> tuple[Tensor, LevelStatistics]:
    """Weighted loss on (positives, negatives) with statistics; negatives are taken as data, without gradient."""
    clean, end = states[0], states[1].detach()
    log_snr = model.schedule.log_snr_at(levels).to(clean)
    labels = None if label is None else torch.cat([label, label])
    both = model.log_density_at(torch.cat([clean, end]), torch.cat([log_snr, log_snr]), labels)
    gap = both[: len(clean)] - both[len(clean) :]
    loss = -(chains.loss_weight(model, levels).to(clean) * gap).mean()
    step_alpha, step_sigma = model.schedule.step_between(levels, levels + 1)
    precision = (step_alpha / step_sigma) ** 2 + model.schedule.sigma_at(levels) ** -2
    jumped = (end - clean).square().flatten(1).mean(1) * precision.to(clean)
    values = (gap.detach(), acceptance, jumped)
    return loss, LevelStatistics(*(level_means(value, levels, model.num_levels) for value in values))
