r"""Variational dequantisation: noise whose density is learned, with its own bound.

.. math:: \log P(x) \ge \mathrm{E}_{q(u \mid x)}\big[\log p(x + u) - \log q(u \mid x)\big]

With q uniform this is :class:`Dequantization`; a learned q can only tighten the bound. Source: Ho et al. 2019 (Flow++).
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
        rows: x + u, shape of x.
        log_noise_density: log q(u | x) per row, in the units of x, float64 ``(n,)``.
    """

    rows: Tensor
    log_noise_density: Tensor

    __repr__ = brief


class VariationalDequantization(nn.Module):
    r"""Logistic noise pressed into the cell of each value: u / w = sigmoid(m(x) + e^{s(x)} L) - 1/2, L standard logistic.

    m and s come from two small layers that look at the row (dense) or at the neighbourhood of each pixel (convolutions).
    They start at m = 0, s = 0, where u is exactly uniform, so training starts from the uniform bound.

    Args:
        event_shape: (channels, height, width) of images, or (d,) of rows.
        width: spacing of the values, one grey level by default.
        value_range: least and largest value, which scale the input of the layers.
        num_hidden: hidden units or channels.
        generator: source of the initial weights.

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
            self.hidden: nn.Module = nn.Conv2d(channels, num_hidden, 3, padding=1)
            self.readout: nn.Module = nn.Conv2d(num_hidden, 2 * channels, 1)
        else:
            size = self.event_shape.numel()
            self.hidden, self.readout = nn.Linear(size, num_hidden), nn.Linear(num_hidden, 2 * size)
        nn.init.kaiming_normal_(self.hidden.weight, generator=generator)
        nn.init.uniform_(self.hidden.bias, -1, 1, generator=generator)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> NoisedRows:
        """Noise for rows ``x`` ``(n, d)`` or ``(n, *event_shape)``; differentiable in this module's weights.

        Args:
            generator: source of randomness.
        """
        low, high = self.value_range
        dtype = self.hidden.bias.dtype
        events = x.reshape(len(x), *self.event_shape).to(dtype)
        center, log_scale = self.readout(functional.gelu(self.hidden(2 * (events - low) / (high - low) - 1))).chunk(
            2, 1
        )
        uniform = torch.rand(events.shape, generator=generator, dtype=torch.float64, device=x.device)
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
    """Mean over draws of log p(x + u) - log q(u | x): a lower bound of log P(x) per row, float64 ``(n,)``.

    Args:
        dequantization: q.
        log_density: log density of rows in the units of x.
        x: whole numbers ``(n, d)``.
        generator: source of randomness.

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
    """Tighten the bound on rows ``x`` in place, the density held fixed; returns the mean bound of every step.

    Args:
        dequantization: trained in place.
        log_density: of rows ``(n, *event)`` in data units, ``(n,)``.
        x: whole numbers.
        num_steps: gradient steps.
        batch_size: rows per step.
        learning_rate: of Adam.
        generator: source of randomness.

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
