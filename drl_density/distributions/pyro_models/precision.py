"""Models written in float32, evaluated in float64."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

LOW = (torch.float32, torch.float16, torch.bfloat16)
"""Types of numbers that are promoted where they meet float64."""
_KEEPS_ITS_OWN = ("to", "type_as", "result_type", "can_cast", "promote_types")
"""Functions whose answer is the type of numbers of one of their arguments."""


class Promotion(TorchFunctionMode):
    """Casts narrower floating-point tensors to float64 in every operation that also takes a float64 tensor.

    Torch lets a float64 number follow the type of a float32 vector, so a model with one float32 column would otherwise be
    evaluated in float32 without a word; a matrix product of both types is an error.

    Attributes:
        count: number of operations in which a tensor was cast.

    >>> with Promotion() as promotion:
    ...     found = torch.ones(3, dtype=torch.float32) * torch.tensor(0.1, dtype=torch.float64)
    >>> found.dtype, promotion.count
    (torch.float64, 1)
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation of torch, with its arguments promoted where their types are mixed."""
        kwargs = kwargs or {}
        types_of_numbers = {tensor.dtype for tensor in _tensors((args, kwargs))}
        if torch.float64 not in types_of_numbers or types_of_numbers.isdisjoint(LOW):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in _KEEPS_ITS_OWN:
            return func(*args, **kwargs)
        self.count += 1
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):  # writes into its first argument
            return func(args[0], *in_double(args[1:]), **in_double(kwargs))
        return func(*in_double(args), **in_double(kwargs))


@contextlib.contextmanager
def double_by_default() -> Iterator[None]:
    """Make float64 the type of new tensors, such as the parameters of ``Normal(0.0, 1.0)``, for the time of a block.

    >>> with double_by_default():
    ...     torch.zeros(()).dtype
    torch.float64
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def in_double(value: Any) -> Any:
    """The same nested lists, tuples and dictionaries, with floating-point tensors cast to float64.

    >>> in_double({"x": [torch.ones(1), torch.ones(1).long(), "name"]})
    {'x': [tensor([1.], dtype=torch.float64), tensor([1]), 'name']}
    """
    return _mapped(value, lambda tensor: tensor.double() if tensor.dtype in LOW else tensor)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(part, change) for key, part in value.items()} if type(value) is dict else value
    if type(value) in (list, tuple):
        return type(value)(_mapped(part, change) for part in value)
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of nested lists, tuples and dictionaries.

    >>> len(tensors_in(((torch.ones(1), 2.0), {"x": [torch.ones(2)]})))
    2
    """
    return list(_tensors(value))
