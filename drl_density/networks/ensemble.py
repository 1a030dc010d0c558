"""The average of several networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drl_density.networks.contract import has_bounded_growth, is_bounded, is_integrable


class Ensemble(nn.Module):
    """The mean of several networks' outputs, which is the geometric mean of their densities up to a constant.

    Args:
        networks: members that share one contract; each maps ``(batch, *event)`` and log-SNR to ``(batch,)``.

    Raises:
        ValueError: no members.

    >>> from drl_density.networks import MLP, MLPSettings
    >>> both = Ensemble([MLP(MLPSettings(2, width=8)), MLP(MLPSettings(2, width=8))])
    >>> both(torch.zeros(3, 2), torch.zeros(3)).shape, both.has_bounded_growth
    (torch.Size([3]), True)
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("an ensemble needs at least one network, got none")
        self.networks = nn.ModuleList(networks)

    @property
    def has_bounded_growth(self) -> bool:
        """Whether every member's output grows at most linearly."""
        return all(has_bounded_growth(network) for network in self.networks)

    @property
    def is_bounded(self) -> bool:
        """Whether every member's output is bounded from above."""
        return all(is_bounded(network) for network in self.networks)

    @property
    def is_integrable(self) -> bool:
        """Whether exp(member) has a finite integral for every member.

        By Hoelder's inequality the exponential of the mean then has one too.
        """
        return all(is_integrable(network) for network in self.networks)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate the mean over members, shape ``(batch,)``.

        Args:
            x: rows of shape ``(batch, *event)``.
            log_snr: ``()`` for all rows or ``(batch,)``.
        """
        return torch.stack([network(x, log_snr) for network in self.networks]).mean(0)
