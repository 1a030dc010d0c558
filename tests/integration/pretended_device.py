"""A second device on a machine that has none: tensors that hold their numbers, and refuse to meet those of the CPU.

Inside :class:`PretendedDevice`, "meta" stands for a card: what is made there or moved there computes on the CPU in secret,
but an operation on tensors of both places, a generator of the other place, or ``.numpy()`` is an error, as on a card.
Numbers without dimensions, indices, and copies may come from the CPU, as on a card. What this cannot tell: an operation that
a card does not have, or that rounds otherwise there.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CARD = torch.device("meta")
CROSSING = ("copy_", "_to_copy", "index", "index_put_", "index_put", "_index_put_impl_")


class FarTensor(Tensor):
    """A tensor of the pretended card, whose numbers stand in ``near``."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> FarTensor:
        layout = {"strides": near.stride(), "storage_offset": near.storage_offset()}
        far = Tensor._make_wrapper_subclass(cls, near.shape, dtype=near.dtype, device=CARD, **layout)
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return run(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict) -> FarTensor:
        copied = FarTensor(self.near.detach().clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copied = torch.nn.Parameter(copied, requires_grad=self.requires_grad)
        memo[id(self)] = copied
        return copied

    def tolist(self) -> Any:
        """As of any tensor."""
        return self.near.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refused, as on a card."""
        raise TypeError("can't convert a tensor of the pretended device to numpy: use Tensor.cpu() first")

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    def __repr__(self) -> str:
        return f"FarTensor({self.near})"

    def __format__(self, spec: str) -> str:
        return format(self.near, spec)


def _made_there(make: Any) -> Any:
    """``torch.tensor`` and its like, which "meta" gives no numbers."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        return make(*args, **kwargs) if device is None else make(*args, **kwargs).to(device)

    return made


def _matmul(one: Tensor, other: Tensor) -> Tensor:
    """A product with a vector on the left, which "meta" reshapes in place."""
    return torch.mv(other.mT, one) if (one.ndim, other.ndim) == (1, 2) else MATMUL(one, other)


MATMUL = torch.matmul
REWRITTEN = [
    *((torch, name, _made_there(getattr(torch, name))) for name in ("tensor", "as_tensor")),
    *((place, name, _matmul) for place, name in ((torch, "matmul"), (Tensor, "matmul"), (Tensor, "__matmul__"))),
]


class PretendedDevice(TorchDispatchMode):
    """See the module."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; the guard against it would take a fifth of the time of every operation."""
        return False

    def __enter__(self) -> PretendedDevice:
        autocast = torch.autocast
        self.others = contextlib.ExitStack()
        for place, name, replacement in REWRITTEN:  # a mode would handle every call of torch, and take longer than it
            self.others.enter_context(patch.object(place, name, replacement))
        self.others.enter_context(
            patch.object(torch, "autocast", lambda kind, **rest: autocast("cpu" if kind == CARD.type else kind, **rest))
        )
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.others.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if FarTensor not in types and kwargs.get("device") is None:
            return func(*args, **kwargs)  # all of it is on the CPU
        return run(func, args, kwargs)


@functools.cache
def _known(func: Any) -> tuple[str, bool]:
    """(name, whether it writes into its first argument) of an operation."""
    name = func._schema.name.split("::")[1]
    return name, func._schema.is_mutable and not name.startswith("_foreach")


NUMBERS = {int, float, bool, list}


def run(func: Any, args: tuple, kwargs: dict) -> Any:
    """One operation with a card's rules."""
    name, is_written = _known(func)
    if not (kwargs or is_written) and (numbers := _plain(args)):  # most operations
        found = func(*numbers)
        return FarTensor(found) if type(found) is Tensor else found if name == "_local_scalar_dense" else _far(found)
    tensors: list[Tensor] = []
    near_args = [_near(value, tensors) for value in args]
    near_kwargs = {key: _near(value, tensors) for key, value in kwargs.items()} if kwargs else {}
    lone = [x for x in tensors if type(x) is not FarTensor]
    has_far = len(lone) < len(tensors)
    if lone and has_far and name not in CROSSING and any(x.ndim or name in ("cat", "stack") for x in lone):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found the card and the cpu")
    if has_far and name.lstrip("_").startswith("index") and not is_far(args[0]):
        raise RuntimeError(f"{name}: indices should be on the cpu or on the device of the indexed tensor (cpu)")
    asked = kwargs.get("device")
    is_there = has_far if asked is None else torch.device(asked) == CARD
    if is_there and kwargs.get("generator") is not None:
        raise RuntimeError(f"{name}: expected a generator of the card, found one of the cpu")
    if is_there and asked is not None:
        near_kwargs["device"] = torch.device("cpu")
    found = func(*near_args, **near_kwargs)
    if type(found) is Tensor and is_there and not is_written and name != "_local_scalar_dense":
        return FarTensor(found)
    if name == "_local_scalar_dense" or not is_there:
        return found
    if is_written and args[0].shape != args[0].near.shape:
        raise NotImplementedError(f"{name} changes the shape of a tensor in place, which is not pretended")
    return args[0] if is_written else _far(found)


def _plain(args: tuple) -> list[Any] | None:
    """The numbers of arguments that begin with a tensor of the card, and hold others only of it or without dimensions."""
    if not args or type(args[0]) is not FarTensor:
        return None
    numbers: list[Any] = []
    for value in args:
        kind = type(value)
        if kind is FarTensor:
            numbers.append(value.near)
        elif kind is list and not all(type(part) is int for part in value):
            return None
        elif kind in NUMBERS or (kind is Tensor and not value.ndim):
            numbers.append(value)
        else:
            return None
    return numbers


def _near(value: Any, tensors: list[Tensor]) -> Any:
    """The numbers of every tensor in an argument; the tensors are noted."""
    if type(value) is FarTensor:
        tensors.append(value)
        return value.near
    if isinstance(value, Tensor):
        tensors.append(value)
        return value
    return type(value)([_near(part, tensors) for part in value]) if isinstance(value, list | tuple) else value


def _far(value: Any) -> Any:
    if isinstance(value, Tensor):
        return FarTensor(value)
    return type(value)(_far(part) for part in value) if isinstance(value, list | tuple) else value


def is_far(x: Any) -> bool:
    """Whether a tensor is of the card."""
    return isinstance(x, FarTensor)
