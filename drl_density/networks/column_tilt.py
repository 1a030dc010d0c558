"""A bounded network over the columns of a table, each of which it sees through a bank of sigmoids."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from drl_density.networks.distinct_levels import by_row, distinct_levels
from drl_density.records.brief import brief
from drl_density.records.fields import Chance, Interval, PositiveInt, check_fields

SLOPE = 1.7
"""Slope that makes a logistic sigmoid close to the normal distribution function."""


@dataclass(frozen=True)
class ColumnTiltSettings:
    """Sizes of a :class:`ColumnTilt`.

    Attributes:
        num_features: length d of the input vector.
        width: number of hidden units of every layer.
        num_blocks: number of residual blocks.
        num_sigmoids: number of sigmoids that each column is seen through.
        column_width: numbers into which the bank of a column is mapped.
        dropout: share of hidden units dropped in training mode.
    """

    num_features: PositiveInt
    width: PositiveInt = 128
    num_blocks: PositiveInt = 2
    num_sigmoids: Annotated[int, Interval(2)] = 24
    column_width: PositiveInt = 16
    dropout: Chance = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, eq=False)
class SigmoidBank:
    r"""The features of every column as sigmoids between 0 and 1, and a linear map of them.

    A hyperbolic tangent is a sigmoid too, :math:`\tanh z = 2\,\mathrm{sigmoid}(2 z) - 1`. So one pass over the large bank
    gives all features, and factors and constants are parts of the map.

    Attributes:
        scale: factor of x in each sigmoid, ``(k,)``.
        shift: constant in each sigmoid, ``(k,)``.
        weights: map of the sigmoids of each column, ``(d, k, m)``.
        biases: constants of that map, ``(d, 1, m)``.
    """

    scale: Tensor
    shift: Tensor
    weights: Tensor
    biases: Tensor

    __repr__ = brief

    def some(self, places: Tensor) -> SigmoidBank:
        """The bank of the columns at ``places`` alone."""
        return dataclasses.replace(self, weights=self.weights[places], biases=self.biases[places])

    def columns(self, x: Tensor) -> Tensor:
        """Numbers ``(d, n, m)`` of every column of vectors ``x`` ``(n, d)``."""
        bank = torch.addcmul(self.shift, x[..., None], self.scale).sigmoid()
        # A matrix product for each column: einsum would permute the large bank twice.
        return torch.baddbmm(self.biases, bank.transpose(0, 1), self.weights)


class ColumnTilt(nn.Module):
    r"""Residual GELU network over per-column features, bounded, with a readout that depends on the noise level.

    Column j of x is mapped to sigmoids at normal quantiles q_k, each as wide as the gap to its neighbours, and to
    :math:`3 \tanh(x_j / 3)`. These features are bounded and do not repeat, so the network is constant far out and adds no
    mode there: any normalised density times its exponential is integrable. The readout starts at zero.

    Args:
        settings: sizes of the network.
        generator: source of the initial weights.

    >>> network = ColumnTilt(ColumnTiltSettings(num_features=3))
    >>> network(torch.zeros(5, 3), torch.zeros(5)).shape
    torch.Size([5])
    """

    quantiles: Tensor
    gaps: Tensor
    level_frequencies: Tensor

    has_bounded_growth = True
    is_bounded = True

    @property
    def maps_columns(self) -> bool:
        """Whether :meth:`with_columns` is possible: while no unit is dropped."""
        return not self.training

    def __init__(self, settings: ColumnTiltSettings, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.settings = settings
        width, count = settings.width, settings.num_sigmoids
        quantiles = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
        self.register_buffer("quantiles", quantiles.float())
        self.register_buffer("gaps", torch.gradient(quantiles)[0].float())
        # Log-SNRs span 10 to 20 units: periods of 4 to 63 units resolve single levels, and the longest does not repeat.
        self.register_buffer("level_frequencies", torch.linspace(0.1, 1.5, 12))
        shape = (settings.num_features, count + 1, settings.column_width)
        self.columns = nn.Parameter(torch.randn(shape, generator=generator) / math.sqrt(count))
        self.embed_level = nn.Sequential(nn.Linear(25, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.embed = nn.Linear(settings.num_features * settings.column_width, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(settings.num_blocks))
        self.project = nn.ModuleList(nn.Linear(width, width) for _ in range(settings.num_blocks))
        self.modulate = nn.Linear(width, 2 * width * settings.num_blocks)
        self.readout = nn.Linear(width, width + 1)
        self.dropout = nn.Dropout(settings.dropout)
        self._initialize(generator)

    def _initialize(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.in_features)
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        for module in (self.readout, self.modulate):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def bank(self) -> SigmoidBank:
        """The bank of sigmoids with the weights that map it to the numbers of every column."""
        scale = functional.pad(SLOPE / self.gaps, (0, 1), value=2 / 3)
        shift = functional.pad(-SLOPE * self.quantiles / self.gaps, (0, 1))
        half = self.columns * functional.pad(torch.ones_like(self.gaps), (0, 1), value=3.0)[:, None]
        return SigmoidBank(scale, shift, 2 * half, -half.sum(1, keepdim=True))

    def _level_embedding(self, log_snr: Tensor) -> Tensor:
        angles = log_snr[..., None] * self.level_frequencies
        return self.embed_level(torch.cat([log_snr[..., None] / 4, angles.sin(), angles.cos()], -1))

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate the tilt, shape ``(batch,)``.

        Args:
            x: vectors of shape ``(batch, num_features)``.
            log_snr: ``()`` for all rows or ``(batch,)``.

        Raises:
            ValueError: vectors of another length.
        """
        if x.shape[-1] != self.settings.num_features:
            raise ValueError(f"expected vectors of length {self.settings.num_features}, got shape {tuple(x.shape)}")
        columns = self.bank().columns(x).transpose(0, 1).flatten(1)
        return self._output(self.embed(self.dropout(functional.gelu(columns))), log_snr)

    def with_columns(self, x: Tensor, values: Tensor, places: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate the fixed tilt at vectors that differ in some columns alone, ``(n, k)``.

        The other columns are mapped once for all k vectors. The layer behind them is linear, so their shares of it add up.

        Args:
            x: vectors ``(n, num_features)``, whose entries at ``places`` are ignored.
            values: entries at ``places`` of k vectors for each of ``x``, ``(n, k, len(places))``.
            places: columns that differ, ``(m,)``.
            log_snr: log signal-to-noise ratio of all vectors, ``()``.
        """
        others = other_places(places, self.settings.num_features)
        bank, weights = self.bank(), self.embed.weight.unflatten(1, (self.settings.num_features, -1))

        def share(columns: Tensor, at: Tensor) -> Tensor:
            mapped = functional.gelu(bank.some(at).columns(columns)).transpose(0, 1).flatten(1)
            return mapped @ weights[:, at].flatten(1).T

        state = share(values.flatten(0, 1), places).unflatten(0, values.shape[:2])
        state = state + (share(x[:, others], others) + self.embed.bias)[:, None]
        return self._output(state.flatten(0, 1), log_snr).unflatten(0, values.shape[:2])

    def _output(self, state: Tensor, log_snr: Tensor) -> Tensor:
        distinct, row_level = distinct_levels(log_snr)
        level = self._level_embedding(distinct)
        modulation = self.modulate(level).chunk(2 * len(self.hidden), -1)
        for index, (hidden, project) in enumerate(zip(self.hidden, self.project, strict=True)):
            gain, shift = by_row(1 + modulation[2 * index], row_level), by_row(modulation[2 * index + 1], row_level)
            state = state + project(self.dropout(functional.gelu(hidden(state) * gain + shift)))
        readout = by_row(self.readout(level), row_level)
        return (readout[..., :-1] * functional.gelu(state)).sum(-1) + readout[..., -1]


def other_places(places: Tensor, num_features: int) -> Tensor:
    """All columns but those at ``places``, in order.

    >>> other_places(torch.tensor([1]), 3)
    tensor([0, 2])
    """
    is_other = torch.ones(num_features, dtype=torch.bool, device=places.device)
    is_other[places] = False
    return is_other.nonzero().flatten()
