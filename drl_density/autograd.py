"""Gradients inside ``torch.inference_mode``: chains and training need autograd, which that mode switches off."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
Class = TypeVar("Class", bound=type)


def outside_inference_mode(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function compute gradients although its caller runs under ``torch.inference_mode``.

    The mode is switched off during the call, and tensors of that mode among the arguments are cloned, since autograd
    refuses them. Tensors inside other arguments, such as those that a log density refers to, are left as they are.

    >>> @outside_inference_mode
    ... def slope(x):
    ...     x = x.requires_grad_(True)
    ...     return torch.autograd.grad((x**2).sum(), x)[0]
    >>> with torch.inference_mode():
    ...     slope(torch.ones(2))
    tensor([2., 2.])
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False):
            unchecked: Callable[..., R] = function
            return unchecked(*map(_usable, args), **{name: _usable(value) for name, value in kwargs.items()})

    return call


def methods_outside_inference_mode(kind: Class) -> Class:
    """Let all public methods of a class, and its ``__init__``, compute gradients; see :func:`outside_inference_mode`.

    >>> @methods_outside_inference_mode
    ... class Square:
    ...     def slope(self, x):
    ...         x = x.requires_grad_(True)
    ...         return torch.autograd.grad((x**2).sum(), x)[0]
    >>> with torch.inference_mode():
    ...     Square().slope(torch.ones(2))
    tensor([2., 2.])
    """
    is_generated = dataclasses.is_dataclass(kind)
    for name, member in list(vars(kind).items()):
        if name.startswith("_") and (name != "__init__" or is_generated):
            continue  # the ``__init__`` of a dataclass is generated, and only sets fields
        if isinstance(member, classmethod):
            setattr(kind, name, classmethod(outside_inference_mode(member.__func__)))
        elif inspect.isfunction(member):
            setattr(kind, name, outside_inference_mode(member))
    return kind


def _usable(value: Any) -> Any:
    """The value with every tensor of inference mode cloned, in plain containers as well."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if type(value) in (list, tuple):
        return type(value)(_usable(one) for one in value)
    if type(value) is dict:
        return {key: _usable(one) for key, one in value.items()}
    return value
