"""TODO: say what this module holds."""

from __future__ import annotations

from torch import Tensor, nn

from drl_density.bases.gaussian_mixture import NoisedGaussianMixture
from drl_density.networks.contract import has_bounded_growth


class Tilted(nn.Module):
    """A mixture and a network as one energy, so that energies with different mixtures can be averaged.

    Args:
        mixture: the fixed part.
        network: the trained part, see :mod:`drl_density.networks`.

    >>> from drl_density.networks import MLP, MLPSettings
    >>> energy = Tilted(NoisedGaussianMixture.standard(2), MLP(MLPSettings(2, width=8)))
    >>> energy(torch.zeros(3, 2), torch.zeros(3)).shape, energy.is_integrable
    (torch.Size([3]), True)
    """

    has_bounded_growth = False

    def __init__(self, mixture: NoisedGaussianMixture, network: nn.Module) -> None:
        super().__init__()
        self.mixture, self.network = mixture, network

    @property
    def is_integrable(self) -> bool:
        """True when the network cannot outgrow the mixture's quadratic tails."""
        return has_bounded_growth(self.network)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Sum of both parts, shape ``(batch,)``.

        Args:
            x: ``(batch, *event)``.
            log_snr: ``()`` or ``(batch,)``.
        """
        return self.mixture(x, log_snr) + self.network(x, log_snr)
