"""Passes of Markov chains without launch overhead: recorded once per shape as a CUDA graph, then replayed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from drl_density.mcmc.kernel import value_and_gradient
from drl_density.shapes import per_row

WARM_UPS = 3
"""Passes on a side stream before a recording, as in PyTorch's documentation of ``torch.cuda.graph``."""


class PassGraphs:
    """Values and gradients of a function of rows, recorded at the first pass of each shape and replayed from then on.

    A chain of few rows spends most of its time launching kernels; a graph is launched once per pass. Noise, acceptance and
    step sizes are computed outside the graph, so kernels and generators work as usual. A recording reads weights at the
    addresses they had; the caller passes another ``key`` when these change. A copy, or an object from a pickle, starts
    without recordings.

    >>> graphs = PassGraphs()
    >>> len(graphs)
    0
    """

    def __init__(self) -> None:
        self._recorded: dict[Hashable, RecordedPass] = {}

    def __len__(self) -> int:
        """Number of recorded passes."""
        return len(self._recorded)

    @staticmethod
    def can_record(device: torch.device) -> bool:
        """Whether passes on ``device`` can be recorded, which only CUDA devices support."""
        return device.type == "cuda"

    def __call__(self, function: Callable[..., Tensor], key: Hashable, x: Tensor, *context: Tensor | None) -> Tensor:
        """Evaluate ``function(x, *context)``, ``(chains,)``, differentiable once and only in ``x``.

        Args:
            function: maps rows and context to one value per row ``(chains,)``. Each value depends on its own row of ``x``
                alone, and the function never waits for the device.
            key: whatever distinguishes recordings of equal shapes, such as the addresses of weights.
            x: rows of shape ``(chains, *event)`` on a CUDA device.
            context: further tensors on that device, or None.

        Raises:
            RuntimeError: the function cannot be recorded.
        """
        shapes = tuple(None if value is None else (value.shape, value.dtype) for value in (x, *context))
        full_key = (key, shapes)
        if full_key not in self._recorded:
            self._recorded[full_key] = RecordedPass(function, x, *context)
        return _Replay.apply(x, self._recorded[full_key], *context)

    def __deepcopy__(self, memo: dict[int, Any]) -> PassGraphs:
        return PassGraphs()

    def __reduce__(self) -> tuple[type[PassGraphs], tuple[()]]:
        return PassGraphs, ()


class RecordedPass:
    """One forward pass and its gradient in x, as a CUDA graph.

    Args:
        function: see :class:`PassGraphs`.
        x: rows of the shape to record.
        context: further arguments.

    Raises:
        RuntimeError: the function cannot be recorded, for example because it waits for the device.
    """

    def __init__(self, function: Callable[..., Tensor], x: Tensor, *context: Tensor | None) -> None:
        self._set_inputs(x, *context)
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
                f"this density cannot be recorded as a CUDA graph ({reason}): its network waits for a value from the GPU "
                "during the pass; use is_graphed=False"
            ) from error

    def __call__(self, x: Tensor, *context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute (value, gradient) at ``x``, which has the recorded shape."""
        self.x.copy_(x)
        for stored, value in zip(self.context, context, strict=True):
            if stored is not None and value is not None:
                stored.copy_(value)
        self.graph.replay()
        value, gradient = self.outputs
        return value.clone(), gradient.clone()

    def _set_inputs(self, x: Tensor, *context: Tensor | None) -> None:
        """Store copies of the inputs at addresses that the graph reads again at every replay."""
        self.x = x.detach().clone()
        self.context = [None if value is None else value.detach().clone() for value in context]

    def _run(self, function: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        return value_and_gradient(lambda state: function(state, *self.context), self.x)


class _Replay(torch.autograd.Function):
    """A recorded pass as a differentiable function, whose gradient was computed with its value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, recorded: RecordedPass, *context: Tensor | None) -> Tensor:
        value, gradient = recorded(x, *context)
        ctx.save_for_backward(gradient)
        ctx.num_others = 1 + len(context)
        return value

    @staticmethod
    @once_differentiable
    # torch types the result of once_differentiable as a function of positional arguments.
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        return per_row(grad_outputs[0], gradient) * gradient, *([None] * ctx.num_others)
