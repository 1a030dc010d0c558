r"""Cooperative diffusion recovery likelihood: an initialiser proposes, short chains refine, and each teaches the other.

.. math:: \hat y = h(x_{t+1}, \lambda_{t+1}) + \sqrt{\tilde\beta_t a^2}\,\xi, \qquad
    \tilde\beta_t = \frac{\sigma_t^2}{\sigma_{t+1}^2}(1 - a^2)

The energy learns from the contrast of data and refined states, the initialiser h from
:math:`\lVert y^K - \hat y \rVert^2`, whose gradient reaches h alone.

Source: Zhu et al. 2024 (arXiv 2309.05153) and release (``main_uncond.py``, ``main_cond.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.devices import generator_device, normal_draws
from drl_density.mcmc import Kernel
from drl_density.model import EnergySequence
from drl_density.shapes import per_row
from drl_density.training.langevin_chains import LangevinChains, draw_pairs
from drl_density.training.langevin_recovery import contrast
from drl_density.training.objectives import ObjectiveValue, check_chance, classification_loss, drop_labels


@dataclass(frozen=True)
class CooperativeRecovery:
    """Loss of an energy and its initialiser together.

    Attributes:
        chains: K = 15 steps with b^2 = 4e-4.
        shares_noise: one noise for x_t and x_{t+1}: the same mean gradient of the energy with less variance. Chains begin at
            the initialiser's proposals, for which this is allowed.
        initializer_weight: factor of the initialiser's loss.
        label_dropout: chance that a row's label is not told, for classifier-free guidance.
        classification_weight: factor of noise-level classification, which the paper does not have.

    Raises:
        ValueError: chains at a temperature other than 1, or a label_dropout that is no chance.
    """

    chains: LangevinChains = field(default_factory=lambda: LangevinChains(num_steps=15, factor=4e-4))
    shares_noise: bool = True
    initializer_weight: float = 1.0
    label_dropout: float = 0.1
    classification_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.chains.temperature != 1:
            raise ValueError(f"training chains must run at temperature 1, got {self.chains.temperature}")
        check_chance(self.label_dropout)

    @property
    def kernel(self) -> Kernel:
        """Of the chains; their step sizes are prescribed and never adapted."""
        return self.chains.kernel

    def __call__(
        self,
        model: EnergySequence,
        x: Tensor | tuple[Tensor, Tensor],
        step_sizes: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> ObjectiveValue:
        """Evaluate on clean rows ``x`` ``(batch, *event)``, or rows with their labels 1, 2, ... ``(batch,)``."""
        x, label = x if isinstance(x, tuple) else (x, None)
        device = generator_device(generator)
        levels = torch.randint(model.num_levels, (len(x),), generator=generator, device=device).to(x.device)
        label = drop_labels(label, self.label_dropout, generator=generator)
        clean, x_noisier = draw_pairs(model, x, levels, levels + 1, shares_noise=self.shares_noise, generator=generator)
        proposal = propose(model, x_noisier, levels, self.chains, label=label, generator=generator)
        end, acceptance = self.chains.run(model, proposal.detach(), x_noisier, levels, label=label, generator=generator)
        loss, statistics = contrast(model, (clean, end), levels, self.chains, acceptance, label)
        alpha = self.chains.step_alpha(model, levels).to(x)
        lesson = (alpha**2 * (end - proposal).square().flatten(1).sum(1)).mean()
        parts = {"recovery": loss.detach(), "initializer": lesson.detach()}
        loss = loss + self.initializer_weight * lesson
        if self.classification_weight:
            classification = classification_loss(model, x, generator=generator)
            parts["classification"] = classification.detach()
            loss = loss + self.classification_weight * classification
        return ObjectiveValue(loss, parts, statistics)


def propose(
    model: EnergySequence,
    x_noisier: Tensor,
    levels: Tensor,
    chains: LangevinChains,
    *,
    label: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The initialiser's random proposal of x_level, differentiable in the initialiser.

    Args:
        model: with an initialiser.
        x_noisier: states one level up, ``(batch, *event)``.
        levels: integer level of each row, ``(batch,)``.
        chains: whose a, with its marginal top, counts.
        label: of each row, for an initialiser with labels.
        generator: source of randomness.

    Raises:
        ValueError: for a sequence without an initialiser.
    """
    if model.initializer is None:
        raise ValueError(
            "cooperative training and its sampler need EnergySequence(..., initializer=...), such as a UNet; this has none"
        )
    alpha = per_row(chains.step_alpha(model, levels).to(x_noisier), x_noisier)
    ratio = model.schedule.sigma_at(levels) / model.schedule.sigma_at(levels + 1)
    ratio = per_row(ratio.to(x_noisier), x_noisier)
    step_sigma = per_row(model.schedule.step_between(levels, levels + 1)[1].to(x_noisier), x_noisier)
    log_snr = model.schedule.log_snr_at(levels + 1).to(x_noisier)
    given = () if label is None else (label,)
    center = model.initializer(x_noisier, log_snr, *given)
    noise = normal_draws(x_noisier.shape, x_noisier, generator)
    return (center + ratio * step_sigma * alpha * noise) / alpha
