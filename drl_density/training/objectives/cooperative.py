r"""Cooperative diffusion recovery likelihood: an initialiser proposes, short chains refine, and each learns from the other.

.. math:: \hat y = h(x_{t+1}, \lambda_{t+1}) + \sqrt{\tilde\beta_t a^2}\,\xi, \qquad
    \tilde\beta_t = \frac{\sigma_t^2}{\sigma_{t+1}^2}(1 - a^2)

The energy learns from the contrast of data and refined states. The initialiser h learns from
:math:`\lVert y^K - \hat y \rVert^2`, whose gradient reaches h alone.

Source: Zhu et al. 2024 (arXiv 2309.05153) and release (``main_uncond.py``, ``main_cond.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.mcmc import Kernel
from drl_density.model import EnergySequence
from drl_density.networks.contract import starts_at_base
from drl_density.records.fields import NonNegativeFloat, Share, check_fields
from drl_density.shapes import per_row
from drl_density.training.objectives.classification import classification_loss
from drl_density.training.objectives.langevin_chains import LangevinChains
from drl_density.training.objectives.langevin_recovery import weighted_contrast
from drl_density.training.objectives.objective import (
    Batch,
    ObjectiveValue,
    drop_labels,
    split_labels,
    uniform_levels,
)
from drl_density.training.objectives.pairs import draw_pairs


@dataclass(frozen=True)
class CooperativeRecovery:
    """Joint loss of an energy and its initialiser.

    Attributes:
        chains: chains that refine the proposals; K = 15 steps with b^2 = 4e-4, as in the paper.
        shares_noise: whether x_t and x_{t+1} come from one noise: the same mean gradient with less variance. Allowed
            because the chains start at the initialiser's proposals.
        initializer_weight: factor of the initialiser's loss.
        label_dropout: probability that a row counts as unlabelled, for classifier-free guidance.
        classification_weight: factor of noise-level classification, which the paper does not have.

    Raises:
        ValueError: chains at a temperature other than 1, or a label_dropout outside [0, 1].
    """

    chains: LangevinChains = field(default_factory=lambda: LangevinChains(num_steps=15, factor=4e-4))
    shares_noise: bool = True
    initializer_weight: NonNegativeFloat = 1.0
    label_dropout: Share = 0.1
    classification_weight: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        self.chains.check_trains()

    @property
    def kernel(self) -> Kernel:
        """Kernel of the chains, whose step sizes are prescribed and never adapted."""
        return self.chains.kernel

    def __call__(
        self, model: EnergySequence, x: Batch, step_sizes: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Evaluate the objective on clean rows.

        Args:
            x: clean rows ``(batch, *event)``, or rows with their labels 1, 2, ... ``(batch,)``.
            step_sizes: not used; the steps are prescribed.
        """
        rows, label = split_labels(x)
        levels = uniform_levels(len(rows), model.num_levels, generator=generator).to(rows.device)
        label = drop_labels(label, self.label_dropout, generator=generator)
        clean, x_noisier = draw_pairs(
            model, rows, levels, levels + 1, shares_noise=self.shares_noise, generator=generator
        )
        proposal = propose(model, x_noisier, levels, self.chains, label=label, generator=generator)
        ends = self.chains.run(model, proposal.detach(), x_noisier, levels, label=label, generator=generator)
        value = weighted_contrast(model, clean, ends, levels, self.chains, label=label)
        alpha = self.chains.step_alpha(model, levels).to(rows)
        error = (alpha**2 * (ends.position - proposal).square().flatten(1).sum(1)).mean()
        value = value.plus("initializer", error, self.initializer_weight)
        if self.classification_weight:
            term = classification_loss(model, rows, generator=generator)
            value = value.plus("classification", term, self.classification_weight)
        return value


def propose(
    model: EnergySequence,
    x_noisier: Tensor,
    levels: Tensor,
    chains: LangevinChains,
    *,
    label: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw the initialiser's proposal of x_level, differentiable in the weights of the initialiser.

    An initialiser that starts at the base shifts an exact draw of x_level given x_noisier under the base. Its draws have the
    spread of the base's conditional, which is often far from Gaussian. The shift depends on x_noisier alone.

    Args:
        model: a sequence with an initialiser.
        x_noisier: states one level up ``(batch, *event)``.
        levels: integer level of each row ``(batch,)``.
        chains: chains that will refine the proposals, which define a.
        label: label of each row ``(batch,)``, for an initialiser with labels.

    Raises:
        ValueError: a sequence without an initialiser, or without the base that it starts at.
    """
    if model.initializer is None:
        raise ValueError(
            "cooperative training and its sampler need EnergySequence(..., initializer=...), such as a UNet; this has none"
        )
    if starts_at_base(model.initializer) and model.base is None:
        raise ValueError("an initialiser that starts at the base needs a sequence with a base; this has none")
    schedule = model.schedule
    alpha = per_row(chains.step_alpha(model, levels).to(x_noisier), x_noisier)
    log_snr = schedule.log_snr_at(levels + 1)
    center = model.initializer(x_noisier, log_snr.to(x_noisier), *(() if label is None else (label,)))
    if model.base is not None and starts_at_base(model.initializer):
        # The change must not depend on the draw: the chains' mean move contracts a draw, and their noise makes up for it.
        drawn = model.base.sample_cleaner(x_noisier, schedule.log_snr_at(levels), log_snr, generator=generator)
        return drawn + (center - x_noisier) / alpha
    ratio = per_row((schedule.sigma_at(levels) / schedule.sigma_at(levels + 1)).to(x_noisier), x_noisier)
    step_sigma = per_row(schedule.step_between(levels, levels + 1)[1].to(x_noisier), x_noisier)
    noise = normal_draws(x_noisier.shape, x_noisier, generator)
    return (center + ratio * step_sigma * alpha * noise) / alpha
