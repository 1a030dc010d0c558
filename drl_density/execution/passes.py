"""Precision, held weights and recorded graphs of the passes that a sequence of models makes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from drl_density.devices import whole_float32
from drl_density.execution.graphs import PassGraphs
from drl_density.networks import SpectralWeight, held_weights


class Execution:
    """How the passes of one model run: in which precision, and whether chains replay them from CUDA graphs.

    The function that is evaluated stays the same; only its rounding and its speed depend on what is set here. A copy, or
    an execution that was pickled, keeps ``is_graphed`` and starts in full precision without recordings.

    Args:
        is_graphed: whether chains replay their passes from CUDA graphs. Has no effect on other devices.

    >>> execution = Execution()
    >>> execution.run(lambda x: x.sum(1), torch.ones(2, 3))
    tensor([3., 3.])
    """

    def __init__(self, *, is_graphed: bool = False) -> None:
        self.is_graphed = is_graphed
        self._graphs = PassGraphs()
        self._network_dtype: torch.dtype | None = None
        self._replay_key: Hashable | None = None

    def __reduce__(self) -> tuple[Callable[[bool], Execution], tuple[bool]]:
        return _fresh, (self.is_graphed,)

    @property
    def num_recordings(self) -> int:
        """How many passes have been recorded as CUDA graphs."""
        return len(self._graphs)

    def run(self, function: Callable[..., Tensor], x: Tensor, *context: Tensor | None) -> Tensor:
        """Evaluate ``function(x, *context)``, from a recorded graph if a chain needs a gradient in ``x``.

        Args:
            function: maps rows ``(batch, *event)`` and the context to one value per row ``(batch,)``. It must be the same
                function at every call.
            x: rows on the model's device.
            context: further tensors on that device, or None.

        Raises:
            RuntimeError: the pass cannot be recorded as a graph.
        """
        if self._replay_key is None or not x.requires_grad:
            return function(x, *context)
        return self._graphs(function, (self._replay_key, self._network_dtype), x, *context)

    def network_precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """Context in which the network computes on ``device``; see :func:`precision` for the choice."""
        if self._network_dtype is None:
            return whole_float32(device)
        if self._network_dtype == torch.float32:
            return nullcontext()
        return torch.autocast(device.type, self._network_dtype)

    @contextmanager
    def lowered(self, dtype: torch.dtype | None) -> Iterator[None]:
        """Context in which :meth:`network_precision` follows ``dtype``; see :func:`precision`."""
        before = self._network_dtype
        self._network_dtype = dtype
        try:
            yield
        finally:
            self._network_dtype = before

    @contextmanager
    def replayed(self, model: ExecutedModule) -> Iterator[None]:
        """Context in which :meth:`run` replays graphs, if ``is_graphed`` is set and the device can record them.

        Args:
            model: the module that owns every weight of the function; a recording is valid only for the addresses at which
                these are stored.
        """
        before = self._replay_key
        if self.is_graphed and PassGraphs.can_record(model.device):
            spectral = (module for module in model.modules() if isinstance(module, SpectralWeight))
            held = [module.held for module in spectral if module.held is not None]
            tensors = [*model.parameters(), *model.buffers(), *held]
            self._replay_key = (model.training, tuple(tensor.data_ptr() for tensor in tensors))
        try:
            yield
        finally:
            self._replay_key = before


class ExecutedModule(nn.Module):
    """A module with an :class:`Execution`, which :func:`precision` and :func:`chain_passes` act on.

    Attributes:
        execution: settings and state of the module's passes; shared by no other module.

    >>> ExecutedModule().execution.is_graphed
    False
    """

    execution: Execution

    def __init__(self) -> None:
        super().__init__()
        self.execution = Execution()

    @property
    def device(self) -> torch.device:
        """Device on which the parameters are stored."""
        return self.first_parameter.device

    @property
    def first_parameter(self) -> nn.Parameter:
        """The first of ``parameters()``; every pass asks for its device and dtype."""
        found = _first_parameter(self)
        return next(self.parameters()) if found is None else found


def _first_parameter(module: nn.Module) -> nn.Parameter | None:
    """The first parameter in the order of ``parameters()``, which takes five times as long to find it."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        found = None if child is None else _first_parameter(child)
        if found is not None:
            return found
    return None


@contextmanager
def precision(model: ExecutedModule, dtype: torch.dtype | None) -> Iterator[None]:
    """Context in which the model's network computes under autocast to ``dtype``, or in full precision for None.

    ``torch.float32`` leaves precision to torch's flags; by default, GPU convolutions then use TF32, which rounds their
    inputs to 10 bits. The fixed base always computes in full precision.

    Lower precision is for passes that learn and for unadjusted chains. A log density that is compared with another one, to
    accept a step, to weigh a particle or to be reported, needs full precision: bfloat16 rounds a raw output of a thousand
    to the next multiple of four, and calibration by the squared step size multiplies that error.

    Args:
        model: the sequence whose passes are meant.
        dtype: lower precision such as ``torch.bfloat16``, or None.

    >>> from drl_density import EnergySequence, NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(2)), (2,))
    >>> with precision(model, torch.bfloat16):
    ...     model.log_density(torch.zeros(3, 2), 0).dtype
    torch.float32
    """
    with model.execution.lowered(dtype):
        yield


@contextmanager
def chain_passes(model: ExecutedModule, *, is_adjusted: bool) -> Iterator[None]:
    """Context for the passes of a Markov chain, which moves x while the weights stay fixed.

    Spectrally normalised weights are computed once, without a gradient, and power iterations pause. Chains that accept or
    reject run in full precision. If ``model.execution.is_graphed`` is set and the model is on a CUDA device, passes that
    need a gradient in x are replayed from recorded graphs.

    Args:
        model: the sequence on which the chain runs.
        is_adjusted: whether the chain's kernel accepts or rejects its proposals.

    >>> from drl_density import EnergySequence, NoiseSchedule
    >>> from drl_density.networks import ResidualEnergy, ResidualSettings
    >>> sizes = ResidualSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1)
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ResidualEnergy(sizes), (1, 8, 8))
    >>> with chain_passes(model, is_adjusted=True):
    ...     model.network.enter.kernel().requires_grad
    False
    """
    with held_weights(model), precision(model, None) if is_adjusted else nullcontext(), model.execution.replayed(model):
        yield


def _fresh(is_graphed: bool) -> Execution:  # noqa: FBT001
    return Execution(is_graphed=is_graphed)
