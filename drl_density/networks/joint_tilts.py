"""Several column tilts of equal sizes, evaluated together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from drl_density.networks.column_tilt import ColumnTilt, SigmoidBank, other_places
from drl_density.networks.distinct_levels import distinct_levels


def can_join(tilts: Sequence[ColumnTilt]) -> bool:
    """Whether tilts have equal sizes and fixed weights, and drop no units.

    >>> from drl_density.networks.column_tilt import ColumnTiltSettings
    >>> tilt = ColumnTilt(ColumnTiltSettings(2, width=8))
    >>> can_join([tilt]), can_join([tilt.eval().requires_grad_(False)])
    (False, True)
    """
    return all(
        tilt.settings == tilts[0].settings
        and not tilt.training
        and not any(weight.requires_grad or weight.is_inference() for weight in tilt.parameters())
        for tilt in tilts
    )


class JointTilts:
    """Column tilts of equal sizes in one: they share the bank of sigmoids, and each layer multiplies stacked matrices once.

    In small batches this takes the time of little more than one network.

    Args:
        tilts: tilts with fixed weights, see :func:`can_join`; copies of their weights are held.

    >>> from drl_density.networks.column_tilt import ColumnTiltSettings
    >>> tilts = [ColumnTilt(ColumnTiltSettings(2, width=8)).eval().requires_grad_(False) for _ in range(3)]
    >>> JointTilts(tilts)(torch.zeros(5, 2), torch.zeros(())).shape
    torch.Size([3, 5])
    """

    def __init__(self, tilts: Sequence[ColumnTilt]) -> None:
        banks = [tilt.bank() for tilt in tilts]
        self.count = len(tilts)
        self.bank = SigmoidBank(
            banks[0].scale,
            banks[0].shift,
            torch.cat([bank.weights for bank in banks], -1),
            torch.cat([bank.biases for bank in banks], -1),
        )
        self.level_frequencies = tilts[0].level_frequencies
        self.embed_level = [_Linears([_linear(tilt.embed_level[index]) for tilt in tilts]) for index in (0, 2)]
        self.embed = _Linears([tilt.embed for tilt in tilts])
        blocks = range(len(tilts[0].hidden))
        self.hidden = [_Linears([_linear(tilt.hidden[index]) for tilt in tilts]) for index in blocks]
        self.project = [_Linears([_linear(tilt.project[index]) for tilt in tilts]) for index in blocks]
        self.modulate = _Linears([tilt.modulate for tilt in tilts])
        self.readout = _Linears([tilt.readout for tilt in tilts])

    def __call__(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate every tilt, ``(tilts, batch)``.

        Args:
            x: vectors of shape ``(batch, num_features)``.
            log_snr: ``()`` for all rows or ``(batch,)``.
        """
        columns = functional.gelu(self.bank.columns(x)).unflatten(-1, (self.count, -1))
        return self._output(self.embed(columns.permute(2, 1, 0, 3).flatten(2)), log_snr)

    def with_columns(self, x: Tensor, values: Tensor, places: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate every tilt at vectors that differ in some columns alone, ``(tilts, n, k)``.

        Args:
            x: vectors ``(n, num_features)``, see :meth:`ColumnTilt.with_columns`.
            values: entries at ``places`` of k vectors for each of ``x``, ``(n, k, len(places))``.
            places: columns that differ, ``(m,)``.
            log_snr: log signal-to-noise ratio of all vectors, ``()``.
        """
        others = other_places(places, x.shape[1])
        weights = self.embed.weights.unflatten(1, (x.shape[1], -1))

        def share(columns: Tensor, at: Tensor) -> Tensor:
            mapped = functional.gelu(self.bank.some(at).columns(columns)).unflatten(-1, (self.count, -1))
            return mapped.permute(2, 1, 0, 3).flatten(2) @ weights[:, at].flatten(1, 2)

        state = share(values.flatten(0, 1), places).unflatten(1, values.shape[:2])
        state = state + (share(x[:, others], others) + self.embed.biases)[:, :, None]
        return self._output(state.flatten(1, 2), log_snr).unflatten(1, values.shape[:2])

    def _output(self, state: Tensor, log_snr: Tensor) -> Tensor:
        distinct, row_level = distinct_levels(log_snr)

        def spread(values: Tensor) -> Tensor:
            return values if row_level is None else values.index_select(1, row_level)

        level = self._level_embedding(distinct.reshape(-1))
        modulation = self.modulate(level).chunk(2 * len(self.hidden), -1)
        for index, (hidden, project) in enumerate(zip(self.hidden, self.project, strict=True)):
            gain, shift = spread(1 + modulation[2 * index]), spread(modulation[2 * index + 1])
            state = state + project(functional.gelu(hidden(state) * gain + shift))
        readout = spread(self.readout(level))
        return (readout[..., :-1] * functional.gelu(state)).sum(-1) + readout[..., -1]

    def _level_embedding(self, log_snr: Tensor) -> Tensor:
        angles = log_snr[:, None] * self.level_frequencies
        value = torch.cat([log_snr[:, None] / 4, angles.sin(), angles.cos()], -1).expand(self.count, -1, -1)
        for layer in self.embed_level:
            value = functional.gelu(layer(value))
        return value


class _Linears:
    """Linear layers of equal sizes, each applied to a batch of its own."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.weights = torch.stack([layer.weight.T for layer in layers])
        self.biases = torch.stack([layer.bias for layer in layers])[:, None]

    def __call__(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.biases, x, self.weights)


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)
    return module
