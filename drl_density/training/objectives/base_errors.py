"""The squared error that the fixed base of a sequence expects of its scores, kept from one training step to the next."""

from __future__ import annotations

import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.bases import Base
from drl_density.model import EnergySequence


class _Kept(NamedTuple):
    """A curve, and what it was computed from: tensors of the base with their states, and the levels."""

    tensors: tuple[weakref.ref[Tensor], ...]
    states: list[tuple[int, torch.device, torch.dtype]]
    log_snr: Tensor
    errors: Tensor


_KEPT: weakref.WeakKeyDictionary[Base, _Kept] = weakref.WeakKeyDictionary()


def base_errors(model: EnergySequence) -> Tensor:
    r"""Compute :math:`L_t = E\lVert\sigma_t \nabla \log b_t(x_t) + \varepsilon\rVert^2`, the base's own expected error.

    For mixtures of many components it costs more than a training step. So the last curve of each base is kept for as long
    as the base lives, and computed again once a tensor of the base is replaced or written to, or the levels differ.

    Args:
        model: a sequence with a base that has noised forms.

    Returns:
        One value for each of the levels 0 to T, ``(T + 1,)``, float64, on the device of the model.

    Raises:
        NotImplementedError: a base without noised forms.
        ValueError: a sequence without a base.

    Source: :meth:`drl_density.bases.Base.expected_error`.

    >>> from drl_density import EnergySequence, NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(2)), event_shape=(2,))
    >>> base_errors(model).shape
    torch.Size([5])
    """
    base = model.base
    if base is None:
        raise ValueError("expected a sequence with a base, whose scores have expected errors; this one has none")
    tensors, log_snr = (*base.parameters(), *base.buffers()), model.schedule.log_snr
    if any(tensor.is_inference() for tensor in tensors):  # they count no writes
        return _computed(base, log_snr, model.device)
    states = [(tensor._version, tensor.device, tensor.dtype) for tensor in tensors]
    kept = _KEPT.get(base)
    if kept is not None and kept.states == states and torch.equal(kept.log_snr, log_snr):
        if all(ref() is tensor for ref, tensor in zip(kept.tensors, tensors, strict=True)):
            return kept.errors
    errors = _computed(base, log_snr, model.device)
    _KEPT[base] = _Kept(tuple(weakref.ref(tensor) for tensor in tensors), states, log_snr, errors)
    return errors


def _computed(base: Base, log_snr: Tensor, device: torch.device) -> Tensor:
    with torch.no_grad():
        return base.expected_error(log_snr.to(device)).double()


def base_errors_at(model: EnergySequence, position: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolate the logarithm of :func:`base_errors` between levels, and average the errors over levels 0 to T - 1.

    Args:
        model: a sequence with a base that has noised forms.
        position: continuous levels in [0, T], of any shape.

    Returns:
        Errors in the shape of ``position``, float64, and their mean over the levels, ``()``.

    Raises:
        ValueError: a sequence without a base.

    >>> from drl_density import EnergySequence, NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(2)), event_shape=(2,))
    >>> at, usual = base_errors_at(model, torch.arange(4))
    >>> bool(torch.isclose(at.mean(), usual))
    True
    """
    errors = base_errors(model).to(position.device)
    below = position.floor().long().clamp(0, model.num_levels - 1)
    share = position.double() - below
    logs = errors.log()
    return torch.lerp(logs[below], logs[below + 1], share).exp(), errors[:-1].mean()
