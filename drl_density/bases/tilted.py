"""A base and a network as one energy."""

from __future__ import annotations

from torch import Tensor, nn

from drl_density.bases.contract import Base, Tail
from drl_density.networks.contract import has_bounded_growth


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
