"""Denoising score matching of the same energies: no chains, and the noise of each pixel teaches on its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.mcmc import ULA, Kernel
from drl_density.model import EnergySequence
from drl_density.shapes import per_row
from drl_density.training.objectives import (
    LevelStatistics,
    ObjectiveValue,
    check_chance,
    check_share,
    classified,
    drop_labels,
    level_shift,
    stratified_levels,
)


@dataclass(frozen=True)
class DenoisingScoreMatching:
    r"""Score matching on noised rows, joined with noise-level classification.

    .. math:: \tfrac12 (\lambda_t - \lambda_{t+1})\, \lVert \sigma_t \nabla F_t(x_t) + \varepsilon \rVert^2, \qquad
        x_t = \alpha_t x + \sigma_t \varepsilon

    in nats: summed over fine levels it bounds the negative log-likelihood up to a constant, and with one short step a
    level it is recovery likelihood with a normal approximation of the conditional. A contrast of two states tells of the
    score along one direction, this loss of all d of them, so networks over images learn in far fewer rows. What it
    does not see is how the mass is shared out between modes that lie far apart, which classification and chains do.

    Attributes:
        classification_weight: factor of the noise-level classification.
        classification_share: share of the batch that is classified, which costs T passes a row.
        level_balance: p of the further weight :math:`(L_t / \bar L)^{-p}`, where L_t is the loss that the fixed base alone
            expects at a level. 0 leaves the bound; 1 would make all levels count alike. In between the noisier levels,
            where the shapes of whole images are settled, get more than their few nats.
        label_dropout: chance that a row's label, where there are labels, is not told, so that the network learns the
            energies of labels and of all rows together.

    Raises:
        ValueError: a share outside (0, 1], a balance outside [0, 1], a dropout that is no chance, or a balance for a
            sequence without a base.

    Source: Vincent 2011; weights as of Kingma et al. 2021 (arXiv 2107.00630); the ablation row "DSM" of Gao et al. 2021.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> value = DenoisingScoreMatching()(model, torch.randn(16, 2).double(), torch.ones(8))
    >>> sorted(value.parts)
    ['classification', 'score_matching']
    """

    classification_weight: float = 1.0
    classification_share: float = 1.0
    level_balance: float = 0.0
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        check_share(self.classification_share)
        check_chance(self.label_dropout)
        if not 0 <= self.level_balance <= 1:
            raise ValueError(f"level_balance must lie in [0, 1], got {self.level_balance}")

    @property
    def kernel(self) -> Kernel:
        """There are no chains, so there is no step size to adapt."""
        return ULA()

    def __call__(
        self,
        model: EnergySequence,
        x: Tensor | tuple[Tensor, Tensor],
        step_sizes: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> ObjectiveValue:
        """Evaluate on clean rows ``x`` ``(batch, *event)``, or rows with their labels 1, 2, ... ``(batch,)``.

        ``step_sizes`` play no part.
        """
        x, label = x if isinstance(x, tuple) else (x, None)
        label = drop_labels(label, self.label_dropout, generator=generator)
        shift = level_shift(generator).to(x.device)
        levels = stratified_levels(len(x), model.num_levels, generator).to(x.device)
        position = levels + shift
        per_row = self.by_row(model, x, position, label=label, generator=generator)
        loss = per_row.mean()
        parts = {"score_matching": loss.detach()}
        if self.classification_weight:
            classification = classified(model, x, self.classification_share, shift=shift, generator=generator)
            parts["classification"] = classification.detach()
            loss = loss + self.classification_weight * classification
        unseen = torch.full((model.num_levels,), torch.nan, dtype=per_row.dtype, device=x.device)
        return ObjectiveValue(loss, parts, LevelStatistics(unseen, unseen, unseen))

    def by_row(
        self,
        model: EnergySequence,
        x: Tensor,
        position: Tensor,
        *,
        label: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The weighted squared error of each row at a continuous level of its own, ``(batch,)``, nats.

        Args:
            model: the sequence; the result can be differentiated in its parameters.
            x: clean rows ``(batch, *event)``.
            position: levels ``(batch,)`` in [0, T).
            label: integers ``(batch,)``, for a network with labels.
            generator: source of randomness.
        """
        schedule = model.schedule
        alpha, sigma = (per_row(value(position).to(x), x) for value in (schedule.alpha_at, schedule.sigma_at))
        noise = normal_draws(x.shape, x, generator)
        error = sigma * model.score(alpha * x + sigma * noise, position, label=label, has_graph=True) + noise
        above = (position + 1).minimum(torch.tensor(float(model.num_levels), device=x.device).double())
        width = (schedule.log_snr_at(position) - schedule.log_snr_at(above)).to(x)
        return 0.5 * width * self._balance(model, position).to(x) * error.square().flatten(1).sum(1)

    def _balance(self, model: EnergySequence, position: Tensor) -> Tensor:
        """The further weight of continuous levels, shape of ``position``; 1 where all levels expect the same loss."""
        if not self.level_balance:
            return torch.ones_like(position)
        if model.base is None:
            raise ValueError(
                "level_balance measures levels by the fixed base, and this sequence has none: leave it at 0"
            )
        levels = torch.arange(model.num_levels, dtype=position.dtype, device=position.device)
        at, usual = (model.base.expected_error(model.schedule.log_snr_at(value)) for value in (position, levels))
        return (at / usual.mean()) ** -self.level_balance
