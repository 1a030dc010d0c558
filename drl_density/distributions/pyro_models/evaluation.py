"""How the log density of many particles is computed: all at once where the model allows it, in chunks that fit memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

Method = Literal["vmap", "plate", "loop"]
"""How a model is run for many rows: vectorised by torch, with the rows as an outer plate, or one after another."""

LARGEST_GRAPH = 2**28
"""Bytes that autograd may keep for one chunk of rows."""
LARGEST_MISMATCH = 1e-9
"""Absolute and relative difference from single rows, by rounding alone, beyond which a method is not used."""


class InChunks(torch.autograd.Function):
    """A function of rows, evaluated chunk by chunk; the gradient is computed with the value, so that no graph is kept."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, function: Callable[[Tensor], Tensor], num_rows: int) -> Tensor:
        """Values ``(n,)`` of rows ``(n, d)``."""
        values, slopes = [], []
        for part in u.detach().split(num_rows):
            with torch.enable_grad():
                leaf = part.clone().requires_grad_(True)
                value = function(leaf)
                (slope,) = torch.autograd.grad(value.sum(), leaf)
            values.append(value.detach())
            slopes.append(slope)
        ctx.save_for_backward(u, torch.cat(slopes))
        ctx.function, ctx.num_rows = function, num_rows
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        """Gradient ``(n, d)``; it is computed again where it has to be differentiable itself."""
        u, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():
            parts = u.split(ctx.num_rows)
            slopes = torch.cat(
                [torch.autograd.grad(ctx.function(part).sum(), part, create_graph=True)[0] for part in parts]
            )
        return grad_outputs[0][:, None] * slopes, None, None


def in_chunks(function: Callable[[Tensor], Tensor], u: Tensor, num_rows: int) -> Tensor:
    """Values of rows ``(n, d)``, with at most ``num_rows`` at a time and the graph of one chunk in memory.

    >>> in_chunks(lambda u: (u**2).sum(1), torch.ones(3, 2), 2)
    tensor([2., 2., 2.])
    """
    # Inside torch.func transforms the rows are those of one step of a transform, which splits its own work.
    is_transformed = torch._C._functorch.is_functorch_wrapped_tensor(u)  # pyright: ignore[reportAttributeAccessIssue]
    if len(u) <= num_rows or is_transformed:
        return function(u)
    if torch.is_grad_enabled() and u.requires_grad:
        return InChunks.apply(u, function, num_rows)  # pyright: ignore[reportReturnType] (torch types it as Any | None)
    return torch.cat([function(part) for part in u.split(num_rows)])


def choose_method(rows: Tensor, ways: Mapping[Method, Callable[[Tensor], Tensor]]) -> tuple[Method, str]:
    """The first of "vmap" and "plate" whose values and gradients agree with "loop", which is chosen where none does.

    Args:
        rows: rows ``(n, d)`` at which they are compared.
        ways: function of rows by method; "loop" must be among them.

    Returns:
        The method, and what is wrong with "vmap" where that is not the one.

    >>> same = lambda u: u.square().sum(1)
    >>> choose_method(torch.ones(3, 2), {"vmap": lambda u: 2 * same(u), "plate": same, "loop": same})
    ('plate', 'its values differ from those of single rows')
    """
    expected, reason = _value_and_slope(ways["loop"], rows), ""
    methods: tuple[Method, ...] = ("vmap", "plate")
    for method in methods:
        if method not in ways:
            continue
        try:
            # Fewer rows too, as a number of rows may be that of a plate by chance.
            agrees = all(
                _agree(_value_and_slope(ways[method], rows[:count]), [part[:count] for part in expected])
                for count in (len(rows), len(rows) - 1)
            )
        except Exception as fault:  # what a model raises that cannot be vectorised is not known beforehand
            reason = reason or str(fault).splitlines()[0][:160]
            continue
        if agrees:
            return method, reason
        reason = reason or "its values differ from those of single rows"
    return "loop", reason


def _value_and_slope(function: Callable[[Tensor], Tensor], rows: Tensor) -> list[Tensor]:
    """Values ``(n,)`` and gradient ``(n, d)``; values alone where there is no gradient."""
    leaf = rows.clone().requires_grad_(True)
    with torch.enable_grad():
        value = function(leaf)
        if not value.requires_grad:
            return [value]
        return [value.detach(), torch.autograd.grad(value.sum(), leaf)[0]]


def _agree(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return len(found) == len(expected) and all(
        one.shape == other.shape and torch.allclose(one, other, rtol=LARGEST_MISMATCH, atol=LARGEST_MISMATCH, equal_nan=True)
        for one, other in zip(found, expected, strict=True)
    )


def rows_per_chunk(num_bytes: int) -> int:
    """Number of rows whose graphs, of so many bytes each, fit ``LARGEST_GRAPH`` together.

    >>> rows_per_chunk(2**27), rows_per_chunk(2**40)
    (2, 1)
    """
    return max(1, LARGEST_GRAPH // max(1, num_bytes))


def graph_bytes(function: Callable[[Tensor], Tensor], row: Tensor, known: set[int]) -> int:
    """Bytes that autograd keeps for one row ``(d,)``.

    Args:
        function: log density of one row.
        row: row of coordinates.
        known: addresses of tensors that all rows share, such as data.

    >>> row = torch.zeros(2, dtype=torch.float64)
    >>> graph_bytes(lambda u: u.exp().sum(), row, set()) >= 16
    True
    """
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function(row.clone().requires_grad_(True))
    return sum(seen.values())
