r"""Denoisers learned from corrupted points alone: further corruption, and a loss on what was measured.

Each point is known through its mask A only. A further mask hides more of it; the denoiser sees the noised, further masked
point and must predict everything A measured:

.. math:: \lVert A\,(h(\tilde A x_t, \tilde A, t) - x_0) \rVert^2, \qquad \tilde A = A B.

If every entry has a chance to be measured given what the denoiser sees, the optimum is E[x_0 | A~ x_t, A~]. A loss on the
further mask alone would leave the hidden entries undetermined.

Source: Daras et al. 2023 (Ambient Diffusion); its posterior sampling is arXiv 2403.08728.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drl_density.descent import DescentRule, descend
from drl_density.errors import DataError
from drl_density.schedule import NoiseSchedule


@dataclass(frozen=True)
class AmbientSettings:
    """How to train.

    Attributes:
        num_steps: gradient steps.
        batch_size: rows per step.
        learning_rate: peak rate of Adam, falling as a half cosine.
        hidden_share: chance that a measured entry is hidden from the denoiser, drawn afresh for every row and step.
        levels: (least, largest) level trained at.

    Raises:
        ValueError: a hidden_share outside (0, 1).
    """

    num_steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 2e-3
    hidden_share: float = 0.1
    levels: tuple[float, float] = (0.0, 8.0)

    def __post_init__(self) -> None:
        if not 0 < self.hidden_share < 1:
            raise ValueError(
                f"hidden_share must lie in (0, 1), got {self.hidden_share}: without it masks are memorised"
            )


class AmbientDenoiser(nn.Module):
    """h(masked point, mask, level) for flat points: a network on their concatenation.

    Args:
        num_features: d.
        width: hidden units.

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
        """Estimates of the clean points ``(n, d)`` from states and masks ``(n, d)`` and log-SNR ``(n,)`` or ``()``.

        Args:
            x: states; unseen entries play no part.
            is_seen: masks.
            log_snr: of the states.
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
    """Train in place; returns the loss of every step.

    Args:
        denoiser: to be trained.
        rows: corrupted points ``(n, d)``; what stands in unmeasured places plays no part.
        is_measured: ``(n, d)``, True where measured; every row at least once.
        schedule: noise levels.
        settings: steps, rates and further corruption.
        generator: source of randomness.

    Raises:
        DataError: shapes that differ, rows or columns that are never measured.
        TrainingFailed: when the loss is not a finite number.

    >>> from drl_density import NoiseSchedule
    >>> rows, is_measured = torch.randn(20, 2), torch.ones(20, 2, dtype=torch.bool)
    >>> settings = AmbientSettings(num_steps=3, batch_size=8, levels=(0.0, 4.0))
    >>> denoiser, schedule = AmbientDenoiser(2, width=8), NoiseSchedule.log_spaced(4)
    >>> len(train_ambient(denoiser, rows, is_measured, schedule, settings=settings))
    3
    """
    settings = settings or AmbientSettings(levels=(0.0, float(schedule.num_levels)))
    if rows.shape != is_measured.shape or rows.shape[1:] != (denoiser.num_features,):
        raise DataError(
            f"expected rows and masks of shape (n, {denoiser.num_features}), got {tuple(rows.shape)} and "
            f"{tuple(is_measured.shape)}"
        )
    if not bool(is_measured.any(0).all()) or not bool(is_measured.any(1).all()):
        raise DataError("every row must have a measured entry and every column must be measured in some row")
    rows = torch.where(is_measured, rows, 0.0)
    low, high = settings.levels

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
    """A trained denoiser with one fixed further mask, in the place of a sequence for samplers that need estimates alone.

    ``sample_dps`` then is ambient posterior sampling: E[x_0 | x_t] is replaced by E[x_0 | A~ x_t, A~], an approximation.

    Args:
        denoiser: trained by :func:`train_ambient`.
        schedule: the noise levels it was trained on.
        is_seen: the further mask A~, ``(d,)``.

    Raises:
        ValueError: a mask of another length, or one that shows nothing.

    Source: Aali et al. 2025 (arXiv 2403.08728).

    >>> from drl_density import NoiseSchedule
    >>> prior = AmbientPrior(AmbientDenoiser(2, width=8), NoiseSchedule.log_spaced(4), torch.tensor([True, False]))
    >>> prior.denoise(torch.zeros(3, 2), 1.0).shape
    torch.Size([3, 2])
    """

    def __init__(self, denoiser: AmbientDenoiser, schedule: NoiseSchedule, is_seen: Tensor) -> None:
        if is_seen.shape != (denoiser.num_features,) or not bool(is_seen.any()):
            raise ValueError(f"expected a mask ({denoiser.num_features},) that shows something, got {is_seen.tolist()}")
        self.denoiser, self.schedule, self.is_seen = denoiser, schedule, is_seen
        self.event_shape, self.num_levels = torch.Size(is_seen.shape), schedule.num_levels
        like = next(denoiser.parameters())
        self.dtype, self.device = like.dtype, like.device

    def denoise(self, x: Tensor, level: float, *, has_graph: bool = False) -> Tensor:
        """E[x_0 | A~ x, A~] for rows ``(n, d)``.

        Args:
            x: states.
            level: at which they stand.
            has_graph: keep the result differentiable in x.
        """
        with torch.set_grad_enabled(has_graph):
            return self.denoiser(x, self.is_seen.expand(len(x), -1), self.schedule.log_snr_at(level))
