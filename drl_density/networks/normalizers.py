"""Learned constants of the noise levels, as smooth functions of the log-SNR."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LogNormalizers(nn.Module):
    """Learned constants c as a smooth function of the log-SNR: a small tanh network whose output starts at zero.

    Args:
        generator: source of the initial weights of the hidden layer.

    >>> LogNormalizers()(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, 32)
        # Log-SNRs between -10 and 10, divided by 4, times weights of this size: the units bend all over that range.
        nn.init.normal_(self.hidden.weight, std=2.0, generator=generator)
        nn.init.normal_(self.hidden.bias, std=2.0, generator=generator)
        self.readout = nn.Linear(32, 1)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(self, log_snr: Tensor) -> Tensor:
        """Evaluate c at log-SNRs of any shape; the result has their shape and the weights' dtype and device."""
        log_snr = log_snr.to(self.readout.weight)
        return self.readout(torch.tanh(self.hidden(log_snr[..., None] / 4))).squeeze(-1)


class MeanNormalizers(nn.Module):
    """The mean of several models' learned constants.

    If each constant is its model's log Z, the mean is at least the log Z of the averaged energy, by Hoelder's inequality.

    Args:
        members: the constants of each model.

    >>> MeanNormalizers([LogNormalizers(), LogNormalizers()])(torch.zeros(2))
    tensor([0., 0.], grad_fn=<MeanBackward1>)
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, log_snr: Tensor) -> Tensor:
        """Evaluate the mean of c at log-SNRs of any shape, in their shape."""
        return torch.stack([member(log_snr) for member in self.members]).mean(0)
