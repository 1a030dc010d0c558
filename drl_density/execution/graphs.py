"""Chains without launch overhead: the pass that a chain makes, recorded once per shape as a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from drl_density.mcmc.kernel import value_and_gradient
from drl_density.shapes import per_row

WARM_UPS = 3


class PassGraphs:
    """Values and gradients of a function of rows, each shape recorded at its first pass and replayed from then on.

    A chain of few rows spends most of its time launching kernels; a graph launches once per pass. Noise, acceptance and step
    sizes stay outside, so kernels and their generators work as ever. A recording reads weights where they stood: who
    calls says by ``key`` when they are others. A copy, or what comes back from a pickle, begins without recordings.

    >>> graphs = PassGraphs()
    >>> len(graphs)
    0
    """

    def __init__(self) -> None:
        self._recorded: dict[Hashable, RecordedPass] = {}

    def __len__(self) -> int:
        """How many passes are recorded."""
        return len(self._recorded)

    @staticmethod
    def can_record(device: torch.device) -> bool:
        """Whether passes on ``device`` can be recorded."""
        return device.type == "cuda"

    def __call__(self, function: Callable[..., Tensor], key: Hashable, x: Tensor, *context: Tensor | None) -> Tensor:
        """``function(x, *context)``, ``(chains,)``, differentiable once and in ``x`` alone.

        Args:
            function: value of each row ``(chains,)``, which depends on this row of ``x`` alone and asks the host nothing.
            key: what besides shapes tells recordings apart, such as where weights stand.
            x: rows ``(chains, *event)`` on a CUDA device.
            context: further tensors there, or None.

        Raises:
            RuntimeError: the function cannot be recorded.
        """
        shapes = tuple(None if value is None else (value.shape, value.dtype) for value in (x, *context))
        place = (key, shapes)
        if place not in self._recorded:
            self._recorded[place] = RecordedPass(function, x, *context)
        return _Replay.apply(x, self._recorded[place], *context)

    def __deepcopy__(self, memo: dict[int, Any]) -> PassGraphs:
        return PassGraphs()

    def __reduce__(self) -> tuple[type[PassGraphs], tuple[()]]:
        return PassGraphs, ()


class RecordedPass:
    """One forward and input-gradient pass as a CUDA graph.

    Args:
        function: see :class:`PassGraphs`.
        x: rows of the shape to record.
        context: further arguments.

    Raises:
        RuntimeError: the function cannot be recorded, because it asks the host something, say.
    """

    def __init__(self, function: Callable[..., Tensor], x: Tensor, *context: Tensor | None) -> None:
        self.inputs = [None if value is None else value.detach().clone() for value in (x, *context)]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._run(function)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph):
                self.outputs = self._run(function)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise RuntimeError(
                f"this density cannot be recorded as a CUDA graph ({reason}): its network asks the host something on "
                "the way; use is_graphed=False"
            ) from error

    def __call__(self, x: Tensor, *context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(value, gradient) at ``x``, of the recorded shapes."""
        for place, value in zip(self.inputs, (x, *context), strict=True):
            if place is not None:
                place.copy_(value)
        self.graph.replay()
        value, gradient = self.outputs
        return value.clone(), gradient.clone()

    def _run(self, function: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        x, *context = self.inputs
        return value_and_gradient(lambda state: function(state, *context), x)


class _Replay(torch.autograd.Function):
    """A recorded pass as a differentiable function: the gradient comes with the value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, recorded: RecordedPass, *context: Tensor | None) -> Tensor:
        value, gradient = recorded(x, *context)
        ctx.save_for_backward(gradient)
        ctx.num_others = 1 + len(context)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return per_row(outer, gradient) * gradient, *([None] * ctx.num_others)
