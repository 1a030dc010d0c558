r"""Variational dequantisation: noise of a learned density, and the bound that it gives.

.. math:: \log P(x) \ge \mathrm{E}_{q(u \mid x)}\big[\log p(x + u) - \log q(u \mid x)\big]

With q uniform this is :class:`Dequantization`; a learned q tightens the bound. Source: Ho et al. 2019 (Flow++).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from drl_density.descent import DescentRule, descend
from drl_density.records.brief import brief


@dataclass(frozen=True, eq=False)
class NoisedRows:
    """Rows with noise, and the log density of that noise.

    Attributes:
        rows: noisy rows x + u, in the shape of x.
        log_noise_density: log q(u | x) of every row in the units of x, float64 ``(n,)``.
    """

    rows: Tensor
    log_noise_density: Tensor

    __repr__ = brief


class VariationalDequantization(nn.Module):
    r"""Logistic noise inside the cell of each value: u / w = sigmoid(m(x) + e^{s(x)} L) - 1/2 with L standard logistic.

    m and s are outputs of two small layers, dense for rows and convolutions for images. They start at m = 0 and s = 0,
    where u is exactly uniform, so training starts from the uniform bound.

    Args:
        event_shape: (channels, height, width) of images, or (d,) of rows.
        width: spacing w of the values, one grey level by default.
        value_range: least and largest value, which scale the input of the layers.
        num_hidden: number of hidden units of dense layers, or of channels of convolutions.

    >>> noise = VariationalDequantization((1, 4, 4))
    >>> noise(torch.zeros(3, 16)).log_noise_density.abs().max() < 1e-6
    tensor(True)
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        *,
        width: float = 1.0,
        value_range: tuple[float, float] = (0.0, 255.0),
        num_hidden: int = 16,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.event_shape, self.width, self.value_range = torch.Size(event_shape), width, value_range
        if len(event_shape) == 3:
            channels = event_shape[0]
            hidden = nn.Conv2d(channels, num_hidden, 3, padding=1)
            readout = nn.Conv2d(num_hidden, 2 * channels, 1)
        else:
            size = self.event_shape.numel()
            hidden, readout = nn.Linear(size, num_hidden), nn.Linear(num_hidden, 2 * size)
        nn.init.kaiming_normal_(hidden.weight, generator=generator)
        for parameter in readout.parameters():
            nn.init.zeros_(parameter)
        assert hidden.bias is not None  # layers have one by default
        nn.init.uniform_(hidden.bias, -1, 1, generator=generator)
        self.hidden: nn.Module = hidden
        self.readout: nn.Module = readout

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> NoisedRows:
        """Adds noise to rows ``x`` ``(n, d)`` or ``(n, *event_shape)``, differentiable in the weights of this module."""
        low, high = self.value_range
        dtype = next(self.hidden.parameters()).dtype
        events = x.reshape(len(x), *self.event_shape).to(dtype)
        center, log_scale = self.readout(functional.gelu(self.hidden(2 * (events - low) / (high - low) - 1))).chunk(
            2, 1
        )
        uniform = torch.rand(events.shape, generator=generator, dtype=torch.float64, device=x.device)
        # Uniform draws include 0, whose logit is infinite: the interval is shrunk by a rounding error at both ends.
        logistic = torch.logit(uniform * (1 - 2**-50) + 2**-51)
        center, log_scale = center.double(), log_scale.double()
        argument = center + log_scale.exp() * logistic
        share = torch.sigmoid(argument)
        # q(share) = logistic density of L over d share / dL, share (1 - share) e^s.
        log_base = functional.logsigmoid(logistic) + functional.logsigmoid(-logistic)
        log_slope = functional.logsigmoid(argument) + functional.logsigmoid(-argument) + log_scale
        log_noise = (log_base - log_slope).flatten(1).sum(1) - self.event_shape.numel() * math.log(self.width)
        rows = events.double() + (share - 0.5) * self.width
        return NoisedRows(rows.reshape(x.shape), log_noise)


def dequantization_bound(
    dequantization: VariationalDequantization,
    log_density: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    num_samples: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean over draws of log p(x + u) - log q(u | x), a lower bound of log P(x) for every row, float64 ``(n,)``.

    Args:
        dequantization: the density q of the noise.
        log_density: log density of rows in the units of x.
        x: rows of whole numbers, ``(n, d)``.
        num_samples: number of draws of u for every row.

    >>> dequantization = VariationalDequantization((2,), width=8)
    >>> x = torch.zeros(3, 2).double()
    >>> dequantization_bound(dequantization, lambda x: -0.5 * (x**2).sum(-1), x).shape
    torch.Size([3])
    """
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for _ in range(num_samples):
        noised = dequantization(x, generator=generator)
        total = total + log_density(noised.rows).double() - noised.log_noise_density
    return total / num_samples


def train_dequantization(
    dequantization: VariationalDequantization,
    log_density: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    num_steps: int = 500,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    generator: torch.Generator | None = None,
) -> list[float]:
    """Tightens the bound of a fixed density on some rows; returns the mean bound of every step.

    Args:
        dequantization: the density q of the noise, trained in place.
        log_density: log density of rows ``(n, *event)`` in data units, ``(n,)``.
        x: rows of whole numbers, ``(n, d)``.
        num_steps: number of gradient steps.
        batch_size: number of rows in each step.
        learning_rate: constant learning rate of Adam.

    Raises:
        TrainingFailed: a bound that is not a finite number.

    >>> dequantization = VariationalDequantization((2,), width=8)
    >>> x = torch.zeros(20, 2).double()
    >>> losses = train_dequantization(dequantization, lambda x: -(x**2).sum(-1), x, num_steps=3, batch_size=8)
    >>> len(losses)
    3
    """

    def loss_of() -> Tensor:
        chosen = torch.randint(len(x), (batch_size,), generator=generator)
        return -dequantization_bound(dequantization, log_density, x[chosen], generator=generator).mean()

    rule = DescentRule(num_steps, learning_rate)
    losses = descend(dequantization.parameters(), loss_of, rule, name="minus the dequantisation bound")
    return [-loss for loss in losses]
