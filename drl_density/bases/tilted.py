"""A base and a network as one energy, and the mean of several such energies relative to their bases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drl_density.bases.contract import Base, Tail
from drl_density.networks.contract import has_bounded_growth, is_bounded
from drl_density.networks.ensemble import Ensemble


class Tilted(nn.Module):
    """The sum of a base's log density and a network, so that energies with different bases can be averaged.

    Args:
        base: the fixed, normalised part of the energy.
        network: the trained part, see :mod:`drl_density.networks`.

    >>> import torch
    >>> from drl_density.bases import NoisedGaussianMixture
    >>> from drl_density.networks import MLP, MLPSettings
    >>> energy = Tilted(NoisedGaussianMixture.standard(2), MLP(MLPSettings(2, width=8)))
    >>> energy(torch.zeros(3, 2), torch.zeros(3)).shape, energy.is_integrable
    (torch.Size([3]), True)
    """

    has_bounded_growth = False

    def __init__(self, base: Base, network: nn.Module) -> None:
        super().__init__()
        self.base, self.network = base, network

    @property
    def is_integrable(self) -> bool:
        """Whether the base decays quadratically and the network grows at most linearly."""
        return self.base.tail is Tail.QUADRATIC and has_bounded_growth(self.network)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate the sum of both parts, shape ``(batch,)``.

        Args:
            x: rows of shape ``(batch, *event)``.
            log_snr: ``()`` for all rows or ``(batch,)``.
        """
        return self.base(x, log_snr) + self.network(x, log_snr)


class AveragedTilts(Ensemble):
    r"""The mean of tilted energies relative to the even mixture of their bases.

    .. math:: g(x) = \frac1n \sum_i \big(\log b_i(x) + g_i(x)\big) - \log \frac1n \sum_i b_i(x)

    The mean of logarithms is at most the logarithm of the mean. With bounded networks :math:`g_i` this is therefore bounded
    from above too, and draws of the mixture of bases can stand for the average.

    Args:
        parts: bases with their networks.

    Raises:
        ValueError: no parts.

    >>> from drl_density.bases import NoisedGaussianMixture
    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> parts = [Tilted(NoisedGaussianMixture.standard(2), ColumnTilt(ColumnTiltSettings(2))) for _ in range(2)]
    >>> average = AveragedTilts(parts)
    >>> average.is_bounded, average(torch.ones(1, 2), torch.zeros(1)).tolist()
    (True, [0.0])
    """

    def __init__(self, parts: Sequence[Tilted]) -> None:
        super().__init__(parts)

    @property
    def parts(self) -> list[Tilted]:
        """Bases with their networks."""
        return [part for part in self.networks if isinstance(part, Tilted)]

    @property
    def is_bounded(self) -> bool:
        """Whether every network is bounded from above."""
        return all(is_bounded(part.network) for part in self.parts)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate the difference, shape ``(batch,)``.

        Args:
            x: rows of shape ``(batch, *event)``.
            log_snr: ``()`` for all rows or ``(batch,)``.
        """
        bases = torch.stack([part.base(x, log_snr) for part in self.parts])
        tilts = torch.stack([part.network(x, log_snr) for part in self.parts])
        return (bases + tilts).mean(0) - bases.logsumexp(0) + math.log(len(self.parts))
