r"""Denoisers learned from corrupted points alone: further corruption, and a loss on what was measured.

Of each point only the entries of its mask A are known. A further mask hides more of them. The denoiser sees the noised,
further masked point and must predict everything that A measured:

.. math:: \lVert A\,(h(\tilde A x_t, \tilde A, t) - x_0) \rVert^2, \qquad \tilde A = A B.

If every entry may be measured given what the denoiser sees, the optimum is E[x_0 | A~ x_t, A~]. A loss on the further mask
alone would leave the hidden entries undetermined.

Source: Daras et al. 2023 (Ambient Diffusion); its posterior sampling is arXiv 2403.08728.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drl_density.descent import DescentRule, descend
from drl_density.errors import DataError
from drl_density.records.fields import NonNegativeFloat, PositiveFloat, PositiveInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.schedule import NoiseSchedule


@dataclass(frozen=True)
class AmbientSettings:
    """Settings by which an ambient denoiser is trained.

    Attributes:
        num_steps: number of gradient steps.
        batch_size: rows drawn for each step.
        learning_rate: initial learning rate of Adam, which falls as a half cosine.
        hidden_share: probability that a measured entry is hidden from the denoiser, drawn again for every row and step.
        levels: lowest and highest level to train at; None trains at all levels of the schedule.

    Raises:
        ValueError: a hidden_share outside (0, 1).
    """

    num_steps: PositiveInt = 2000
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 2e-3
    hidden_share: float = 0.1
    levels: tuple[NonNegativeFloat, NonNegativeFloat] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.hidden_share < 1:
            raise ValueError(
                f"hidden_share must lie in (0, 1), got {self.hidden_share}: without hidden entries masks are memorised"
            )


class AmbientDenoiser(nn.Module):
    """Denoiser h(masked point, mask, level) of flat points, a network on their concatenation.

    Args:
        width: hidden units of both layers.

    >>> denoiser = AmbientDenoiser(2, width=8)
    >>> denoiser(torch.zeros(3, 2), torch.ones(3, 2, dtype=torch.bool), torch.zeros(3)).shape
    torch.Size([3, 2])
    """

    def __init__(self, num_features: int, *, width: int = 128) -> None:
        super().__init__()
        self.num_features = num_features
        self.layers = nn.Sequential(
            nn.Linear(2 * num_features + 2, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, num_features),
        )

    def forward(self, x: Tensor, is_seen: Tensor, log_snr: Tensor) -> Tensor:
        """Estimates of the clean points, ``(n, d)``.

        Args:
            x: noisy states ``(n, d)``; unseen entries are ignored.
            is_seen: mask of the entries that the denoiser sees, ``(n, d)``.
            log_snr: log signal-to-noise ratio of the states, ``(n,)`` or ``()``.
        """
        seen = is_seen.to(x)
        level = log_snr.to(x).expand(len(x))[:, None]
        return self.layers(torch.cat([x * seen, seen, level / 4, torch.sigmoid(level)], 1))


def train_ambient(
    denoiser: AmbientDenoiser,
    rows: Tensor,
    is_measured: Tensor,
    schedule: NoiseSchedule,
    *,
    settings: AmbientSettings | None = None,
    generator: torch.Generator | None = None,
) -> list[float]:
    """Trains a denoiser in place on corrupted points; returns the loss of every step.

    Args:
        denoiser: the network to train.
        rows: corrupted points ``(n, d)``; values in unmeasured places are ignored.
        is_measured: mask of the measured entries, boolean ``(n, d)``, with at least one in every row and column.
        schedule: noise levels to train at.

    Raises:
        DataError: shapes that differ, a mask of numbers, rows or columns that are never measured, or measured values that
            are not finite.
        TrainingFailed: a loss that is not finite.

    >>> from drl_density import NoiseSchedule
    >>> rows, is_measured = torch.randn(20, 2), torch.ones(20, 2, dtype=torch.bool)
    >>> settings = AmbientSettings(num_steps=3, batch_size=8)
    >>> denoiser, schedule = AmbientDenoiser(2, width=8), NoiseSchedule.log_spaced(4)
    >>> len(train_ambient(denoiser, rows, is_measured, schedule, settings=settings))
    3
    """
    settings = given_or_default(settings, AmbientSettings)
    if rows.shape != is_measured.shape or rows.shape[1:] != (denoiser.num_features,):
        raise DataError(
            f"expected rows and masks of shape (n, {denoiser.num_features}), got {tuple(rows.shape)} and "
            f"{tuple(is_measured.shape)}"
        )
    if is_measured.dtype != torch.bool:
        raise DataError(f"expected a mask of booleans, got {is_measured.dtype}: give is_measured.bool()")
    if not bool(is_measured.any(0).all()) or not bool(is_measured.any(1).all()):
        raise DataError("every row must have a measured entry and every column must be measured in some row")
    rows = torch.where(is_measured, rows, 0.0).to(next(denoiser.parameters()).dtype)
    if not bool(rows.isfinite().all()):
        raise DataError("measured values must be finite: give a mask that is false where a value is missing")
    low, high = settings.levels or (0.0, float(schedule.num_levels))

    def loss_of() -> Tensor:
        chosen = torch.randint(len(rows), (settings.batch_size,), generator=generator)
        clean, measured = rows[chosen], is_measured[chosen]
        levels = low + (high - low) * torch.rand(len(clean), generator=generator, dtype=torch.float64)
        hidden = torch.rand(clean.shape, generator=generator) < settings.hidden_share
        state = schedule.diffuse(clean, levels, generator=generator)
        found = denoiser(state, measured & ~hidden, schedule.log_snr_at(levels))
        return ((found - clean) * measured).square().sum(1).mean()

    rule = DescentRule(settings.num_steps, settings.learning_rate, is_annealed=True)
    return descend(denoiser.parameters(), loss_of, rule, name="the ambient loss")


class AmbientPrior:
    """A trained denoiser with one fixed further mask, as a prior for samplers that need denoised estimates only.

    :func:`sample_dps` with it is ambient posterior sampling: E[x_0 | A~ x_t, A~] approximates E[x_0 | x_t].

    Args:
        denoiser: denoiser trained by :func:`train_ambient`.
        schedule: noise levels on which it was trained.
        is_seen: the further mask A~, ``(d,)``.

    Raises:
        ValueError: a mask of another length, or one without any seen entry.

    Source: Aali et al. 2025 (arXiv 2403.08728).

    >>> from drl_density import NoiseSchedule
    >>> prior = AmbientPrior(AmbientDenoiser(2, width=8), NoiseSchedule.log_spaced(4), torch.tensor([True, False]))
    >>> prior.denoise(torch.zeros(3, 2), 1.0).shape
    torch.Size([3, 2])
    """

    def __init__(self, denoiser: AmbientDenoiser, schedule: NoiseSchedule, is_seen: Tensor) -> None:
        if is_seen.shape != (denoiser.num_features,) or not bool(is_seen.any()):
            raise ValueError(
                f"expected a mask ({denoiser.num_features},) with at least one True, got {is_seen.tolist()}"
            )
        self.denoiser, self.schedule, self.is_seen = denoiser, schedule, is_seen
        self.event_shape, self.num_levels = torch.Size(is_seen.shape), schedule.num_levels
        like = next(denoiser.parameters())
        self.dtype, self.device = like.dtype, like.device

    def denoise(self, x: Tensor, level: float, *, has_graph: bool = False) -> Tensor:
        """Estimates E[x_0 | A~ x, A~] of the clean points, ``(n, d)``.

        Args:
            x: noisy states ``(n, d)``.
            has_graph: whether to keep the result differentiable in x.
        """
        with torch.set_grad_enabled(has_graph):
            return self.denoiser(x, self.is_seen.expand(len(x), -1), self.schedule.log_snr_at(level))
