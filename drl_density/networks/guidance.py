r"""Labels given, guided and composed: networks made of one conditional network.

A network trained with labels takes a third argument, an integer per row, of which 0 means "not told". Here the label is
fixed, so that what comes out satisfies the networks' contract and is an energy (or an initialiser) like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Composed(nn.Module):
    r"""A weighted sum of one network under several labels.

    .. math:: \sum_i w_i\, g(x, \lambda, c_i), \qquad \textstyle\sum_i w_i = 1

    A sum of noised energies is not the noised energy of the sum: draws of it need chains at every level, which is what
    samplers over recovery conditionals run.

    Args:
        network: takes (x, log-SNR, label).
        labels: the c_i, 0 for "not told".
        weights: the w_i, summing to one, so that the fixed base of a sequence counts once.

    Raises:
        ValueError: not as many weights as labels, or weights that do not sum to 1.

    Source: Du et al. 2023 (arXiv 2302.11552) for the need of chains; Zhu et al. 2024 for the energies.

    >>> from drl_density.networks import ResidualEnergy, ResidualSettings
    >>> sizes = ResidualSettings((1, 8, 8), num_channels=4, multipliers=(1,), num_blocks=1, num_classes=2)
    >>> both = Composed(ResidualEnergy(sizes), labels=[1, 2], weights=[0.5, 0.5])
    >>> both(torch.zeros(3, 1, 8, 8), torch.zeros(3)).shape
    torch.Size([3])
    """

    def __init__(self, network: nn.Module, labels: Sequence[int], weights: Sequence[float]) -> None:
        super().__init__()
        if not labels or len(labels) != len(weights) or abs(sum(weights) - 1) > 1e-9:
            raise ValueError(
                f"expected as many weights as labels, summing to 1, got {list(labels)} and {list(weights)}"
            )
        self.network, self.labels, self.weights = network, tuple(labels), tuple(weights)

    @property
    def has_bounded_growth(self) -> bool:
        """As of the network: a sum of finitely many."""
        return bool(getattr(self.network, "has_bounded_growth", False))

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """The sum, of the shape of the network's own output.

        Args:
            x: ``(batch, *event)``.
            log_snr: ``()`` or ``(batch,)``.
        """
        total = None
        for label, weight in zip(self.labels, self.weights, strict=True):
            if weight:
                term = weight * self.network(x, log_snr, torch.full_like(log_snr, label, dtype=torch.long))
                total = term if total is None else total + term
        return total


def guided(network: nn.Module, label: int, weight: float) -> Composed:
    """(1 + w) g(x, c) - w g(x, not told): with exact densities p(x|c) p(c|x)^w up to a constant; w = 0 is p(x|c).

    Args:
        network: g, which takes (x, log-SNR, label).
        label: c.
        weight: w.

    Source: Ho and Salimans 2022; Zhu et al. 2024's release (``main_cond.py``).

    >>> from drl_density.networks import ResidualEnergy, ResidualSettings
    >>> sizes = ResidualSettings((1, 8, 8), num_channels=4, multipliers=(1,), num_blocks=1, num_classes=2)
    >>> guided(ResidualEnergy(sizes), 1, 2.0).weights
    (3.0, -2.0)
    """
    return Composed(network, (label, 0), (1 + weight, -weight))


def composed(network: nn.Module, labels: Sequence[int]) -> Composed:
    """sum_i g(x, c_i) - (n - 1) g(x, not told): all attributes at once, independent given x.

    Args:
        network: g, which takes (x, log-SNR, label).
        labels: the c_i, n of them.

    Source: Zhu et al. 2024, section on compositional generation.

    >>> from drl_density.networks import ResidualEnergy, ResidualSettings
    >>> sizes = ResidualSettings((1, 8, 8), num_channels=4, multipliers=(1,), num_blocks=1, num_classes=2)
    >>> composed(ResidualEnergy(sizes), [1, 2]).weights
    (1.0, 1.0, -1.0)
    """
    return Composed(network, (*labels, 0), (*(1.0 for _ in labels), 1.0 - len(labels)))
