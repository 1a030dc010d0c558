"""The average of several networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drl_density.networks.column_tilt import ColumnTilt
from drl_density.networks.contract import has_bounded_growth, is_bounded, is_integrable
from drl_density.networks.joint_tilts import JointTilts, can_join


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
        self._kept: tuple[tuple[tuple[int, int], ...], JointTilts] | None = None

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
        together = self._together()
        if together is not None:
            return together(x, log_snr).mean(0)
        return torch.stack([network(x, log_snr) for network in self.networks]).mean(0)

    def with_columns(self, x: Tensor, values: Tensor, places: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate the mean over members at vectors that differ in some columns alone, ``(n, k)``.

        Args:
            x: vectors ``(n, num_features)``, whose entries at ``places`` are ignored.
            values: entries at ``places`` of k vectors for each of ``x``, ``(n, k, len(places))``.
            places: columns that differ, ``(m,)``.
            log_snr: log signal-to-noise ratio of all vectors, ``()``.

        Raises:
            ValueError: members that are no column tilts of equal sizes with fixed weights.
        """
        together = self._together()
        if together is None:
            raise ValueError("the members are no column tilts of equal sizes with fixed weights")
        return together.with_columns(x, values, places, log_snr).mean(0)

    @property
    def maps_columns(self) -> bool:
        """Whether :meth:`with_columns` is possible."""
        return self._together() is not None

    def _together(self) -> JointTilts | None:
        """The members in one, kept until their weights change, where they are fixed column tilts of equal sizes."""
        tilts = [network for network in self.networks if isinstance(network, ColumnTilt)]
        if len(tilts) < len(self.networks) or not can_join(tilts):
            return None
        key = tuple((weight.data_ptr(), weight._version) for tilt in tilts for weight in tilt.parameters())
        if self._kept is None or self._kept[0] != key:
            with torch.inference_mode(False):  # what is kept serves later calls with gradients in x
                self._kept = key, JointTilts(tilts)
        return self._kept[1]
