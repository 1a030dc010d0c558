"""Logistic contrast of data with draws of the fixed base, at every noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.bases import Draw
from drl_density.mcmc import ULA, Kernel
from drl_density.model import EnergySequence
from drl_density.shapes import per_row
from drl_density.training.objectives.objective import (
    Batch,
    LevelStatistics,
    ObjectiveValue,
    level_shift,
    stratified_levels,
    unlabelled,
)


@dataclass(frozen=True)
class ReferenceContrast:
    r"""Noise-contrastive estimation of the tilt g against the base b, whose density and draws are exact at every level.

    .. math:: -\log \mathrm{sigmoid}\big(g(x, \lambda) - \log \nu\big)
        - \textstyle\sum_{j=1}^{\nu} \log \mathrm{sigmoid}\big(\log \nu - g(y_j, \lambda)\big)

    Here x is a data row and y_j are draws of the base, both under the noise of the same level; on level 0 the data row is
    clean. At the optimum :math:`g = \log q_\lambda - \log b_\lambda`, so every level is normalised with log Z = 0. The base
    itself is evaluated nowhere, so a base of many components costs nothing but its draws.

    Attributes:
        num_negatives: number nu of base draws for every data row.
        clean_share: share of the rows on level 0, whose density is the one that is reported.
        draw: source of the base's draws without noise, such as a :class:`~drl_density.training.DrawPool`; fresh,
            independent draws when not given.

    Raises:
        ValueError: fewer than one negative or a share outside (0, 1], or, at evaluation, a sequence without a base.

    Source: Gutmann and Hyvarinen 2010, "Noise-contrastive estimation".

    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> from drl_density.schedule import NoiseSchedule
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> value = ReferenceContrast()(model, torch.randn(16, 2), torch.ones(4))
    >>> sorted(value.parts)
    ['contrast']
    """

    num_negatives: int = 1
    clean_share: float = 0.7
    draw: Draw | None = None

    def __post_init__(self) -> None:
        if self.num_negatives < 1 or not 0 < self.clean_share <= 1:
            raise ValueError(
                "need num_negatives of at least 1 and clean_share in (0, 1], got "
                f"{self.num_negatives} and {self.clean_share}"
            )

    @property
    def kernel(self) -> Kernel:
        """An unadjusted kernel, so that no step size is adapted; there are no chains."""
        return ULA()

    def num_clean(self, num_rows: int) -> int:
        """Number of rows on level 0 in a batch of ``num_rows``."""
        return math.ceil(self.clean_share * num_rows)

    def __call__(
        self, model: EnergySequence, x: Batch, step_sizes: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Evaluate the objective on clean rows.

        Args:
            x: clean rows ``(batch, *event)``.
            step_sizes: not used; there are no chains.
        """
        rows = unlabelled(x)
        if model.base is None:
            raise ValueError("contrast needs a normalised base to draw from, and this sequence has none")
        num_clean = self.num_clean(len(rows))
        shift = level_shift(generator=generator).to(rows.device)
        noisy = stratified_levels(len(rows) - num_clean, max(1, model.num_levels - 1), generator=generator)
        # Noisy rows lie on (0, T): level 0 has its own rows, and the shift visits the log-SNRs between the levels.
        noisy = noisy.to(rows.device) + 1 - shift
        position = torch.cat([torch.zeros(num_clean, device=rows.device, dtype=noisy.dtype), noisy])
        is_clean = per_row(position == 0, rows)
        data = torch.where(is_clean, rows, model.schedule.diffuse(rows, position, generator=generator))
        count = self.num_negatives
        log_snr = model.schedule.log_snr_at(position)
        drawn = model.base.sample_at(log_snr.repeat(count), count * len(rows), generator=generator, draw=self.draw)
        drawn, log_snr = drawn.to(rows).reshape(-1, *rows.shape[1:]), log_snr.to(rows)
        tilt = model.tilt_at(torch.cat([data, drawn]), log_snr.repeat(count + 1)) - math.log(count)
        own, theirs = tilt[: len(rows)], tilt[len(rows) :].reshape(count, len(rows))
        loss = (functional.softplus(-own) + functional.softplus(theirs).sum(0)).mean()
        return ObjectiveValue(
            loss, {"contrast": loss.detach()}, LevelStatistics.unknown(model.num_levels, loss.detach())
        )
