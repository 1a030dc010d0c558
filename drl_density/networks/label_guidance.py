r"""Energies of one label, of a label with guidance, and of several labels, made of one network with labels.

A network trained with labels takes a third argument, an integer per row, of which 0 means unlabelled. The networks here fix
the labels, so that the result satisfies the contract of a network without labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drl_density.networks.contract import has_bounded_growth, starts_at_base


class LabelSum(nn.Module):
    r"""A weighted sum of one network under several labels.

    .. math:: \sum_i w_i\, g(x, \lambda, c_i), \qquad \textstyle\sum_i w_i = 1

    A sum of noised energies differs from the noised energy of the sum. Draws therefore need chains at every level, which
    samplers over recovery conditionals run.

    Args:
        network: g, which takes (x, log-SNR, label).
        labels: the labels c_i, with 0 for unlabelled.
        weights: the weights w_i. They sum to one, so that the fixed base of a sequence counts once.

    Raises:
        ValueError: not as many weights as labels, or weights that do not sum to 1.

    Source: Du et al. 2023 (arXiv 2302.11552) for the need of chains; Zhu et al. 2024 (arXiv 2309.05153) for the energies.

    >>> from drl_density.networks import ResidualEnergy, ResidualSettings
    >>> sizes = ResidualSettings((1, 8, 8), num_channels=4, multipliers=(1,), num_blocks=1, num_classes=2)
    >>> both = LabelSum(ResidualEnergy(sizes), labels=[1, 2], weights=[0.5, 0.5])
    >>> both(torch.zeros(3, 1, 8, 8), torch.zeros(3)).shape
    torch.Size([3])
    """

    def __init__(self, network: nn.Module, labels: Sequence[int], weights: Sequence[float]) -> None:
        super().__init__()
        # Weights such as 1 + w and -w are rounded; 1e-9 is far above that and far below any weight that matters.
        if not labels or len(labels) != len(weights) or abs(sum(weights) - 1) > 1e-9:
            raise ValueError(
                f"expected as many weights as labels, summing to 1, got {list(labels)} and {list(weights)}"
            )
        self.network, self.labels, self.weights = network, tuple(labels), tuple(weights)

    @property
    def has_bounded_growth(self) -> bool:
        """Whether the network's output grows at most linearly; a finite sum of such terms does too."""
        return has_bounded_growth(self.network)

    @property
    def starts_at_base(self) -> bool:
        """Whether the network is an initialiser that shifts draws of the base."""
        return starts_at_base(self.network)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate the sum, in the shape of the network's own output.

        Args:
            x: rows of shape ``(batch, *event)``.
            log_snr: ``()`` for all rows or ``(batch,)``.
        """
        terms = [
            weight * self.network(x, log_snr, torch.full_like(log_snr, label, dtype=torch.long))
            for label, weight in zip(self.labels, self.weights, strict=True)
            if weight
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


def guide_by_label(network: nn.Module, label: int, weight: float) -> LabelSum:
    """Build (1 + w) g(x, c) - w g(x, 0), the energy of one label sharpened by guidance.

    If both energies are exact, its density is p(x|c) p(c|x)^w up to a constant; w = 0 gives p(x|c) itself.

    Args:
        network: g, which takes (x, log-SNR, label).
        label: the label c, from 1 on.
        weight: the guidance weight w.

    Source: Ho and Salimans 2022 (arXiv 2207.12598); Zhu et al. 2024's release (``main_cond.py``).

    >>> from drl_density.networks import ResidualEnergy, ResidualSettings
    >>> sizes = ResidualSettings((1, 8, 8), num_channels=4, multipliers=(1,), num_blocks=1, num_classes=2)
    >>> guide_by_label(ResidualEnergy(sizes), 1, 2.0).weights
    (3.0, -2.0)
    """
    return LabelSum(network, (label, 0), (1 + weight, -weight))


def combine_labels(network: nn.Module, labels: Sequence[int]) -> LabelSum:
    """Build sum_i g(x, c_i) - (n - 1) g(x, 0), the energy of n labels that hold at once.

    It is exact for labels that are independent given x.

    Args:
        network: g, which takes (x, log-SNR, label).
        labels: the labels c_i, from 1 on.

    Source: Zhu et al. 2024 (arXiv 2309.05153), section on compositional generation.

    >>> from drl_density.networks import ResidualEnergy, ResidualSettings
    >>> sizes = ResidualSettings((1, 8, 8), num_channels=4, multipliers=(1,), num_blocks=1, num_classes=2)
    >>> combine_labels(ResidualEnergy(sizes), [1, 2]).weights
    (1.0, 1.0, -1.0)
    """
    return LabelSum(network, (*labels, 0), (*(1.0 for _ in labels), 1.0 - len(labels)))
