r"""The papers' parametrisation of an energy, wrapped so that it satisfies the networks' contract.

The papers' network takes y = a x instead of x. Its output becomes a log density only after division by the squared Langevin
step of the level:

.. math:: g(x, \lambda) = \tilde f(a x, \lambda) / s^2, \qquad \log Z^x = \log Z^y - d \log a

Both a and s are applied here and nowhere else, so that neither can be forgotten or applied twice.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from drl_density.networks.contract import has_bounded_growth
from drl_density.networks.level_embedding import interpolate
from drl_density.shapes import per_row


class StepCalibrated(nn.Module):
    r"""A raw network as an energy, with its input scaled by a and its output divided by s^2.

    Between the given levels log a and log s are linear in the log-SNR; beyond them they are constant. Discrete levels are
    therefore met exactly, and every level between them has a density too.

    Args:
        network: the raw network f.
        level_log_snr: falling log-SNRs of levels 0..T-1, shape ``(T,)``.
        step_alpha: the scale a of each of those levels, shape ``(T,)``.
        step_size: the step s of each level in the units of y, shape ``(T,)``.

    Raises:
        ValueError: tables of different length, or an a or s that is not positive.

    Source: Gao et al. 2021, appendix on the step size, and release (``model.py``); s from
    :meth:`drl_density.NoiseSchedule.langevin_steps`.

    >>> import torch
    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> schedule = NoiseSchedule.log_spaced(4)
    >>> tables = [table.float() for table in schedule.langevin_steps(2e-4)]
    >>> energy = StepCalibrated(MLP(MLPSettings(2, width=8)), schedule.log_snr[:-1].float(), *tables)
    >>> energy(torch.zeros(3, 2), torch.tensor(0.0)).shape
    torch.Size([3])
    """

    level_log_snr: Tensor
    log_step_alpha: Tensor
    log_step_size: Tensor

    def __init__(self, network: nn.Module, level_log_snr: Tensor, step_alpha: Tensor, step_size: Tensor) -> None:
        super().__init__()
        if not level_log_snr.shape == step_alpha.shape == step_size.shape or level_log_snr.ndim != 1:
            raise ValueError(
                f"expected one log-SNR, a and s per level, got shapes {tuple(level_log_snr.shape)}, "
                f"{tuple(step_alpha.shape)} and {tuple(step_size.shape)}"
            )
        if not bool((step_alpha > 0).all() and (step_size > 0).all()):
            raise ValueError(f"a and s must be positive, got {step_alpha.tolist()} and {step_size.tolist()}")
        self.network = network
        self.register_buffer("level_log_snr", level_log_snr.detach().clone())
        self.register_buffer("log_step_alpha", step_alpha.log())
        self.register_buffer("log_step_size", step_size.log())

    @property
    def has_bounded_growth(self) -> bool:
        """Whether the raw network's output grows at most linearly, which scaling does not change."""
        return has_bounded_growth(self.network)

    @property
    def settings(self) -> Any:
        """Settings of the raw network."""
        return self.network.settings

    def step_alpha_at(self, log_snr: Tensor) -> Tensor:
        """Evaluate a at log-SNRs of any shape."""
        return interpolate(self.level_log_snr, self.log_step_alpha, log_snr).exp()

    def step_size_at(self, log_snr: Tensor) -> Tensor:
        """Evaluate s, in the units of y = a x, at log-SNRs of any shape."""
        return interpolate(self.level_log_snr, self.log_step_size, log_snr).exp()

    def log_z_offset(self, log_snr: Tensor, num_features: int) -> Tensor:
        """Compute log Z over x minus log Z over y = a x, which is -d log a, in nats.

        The offset is large: -1400 nats at a = 0.634 and d = 3072.
        """
        return -num_features * interpolate(self.level_log_snr, self.log_step_alpha, log_snr)

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        """Evaluate f(a x) / s^2, shape ``(batch,)``.

        Args:
            x: rows of shape ``(batch, *event)``.
            log_snr: ``()`` for all rows or ``(batch,)``.
            label: integers ``(batch,)`` for a raw network with labels.
        """
        alpha = self.step_alpha_at(log_snr)
        if alpha.ndim:
            alpha = per_row(alpha, x)
        given = () if label is None else (label,)
        return self.network(alpha * x, log_snr, *given) / self.step_size_at(log_snr) ** 2
