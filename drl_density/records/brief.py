"""A short text for records that hold tensors, networks or tables."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

MOST_CHARACTERS = 60
"""Longest text of one field; 250 characters or so for the whole then show the fields of any record here."""
MOST_TOTAL = 280


def brief(self: Any) -> str:
    """One line on a dataclass: small values as they are, tensors and arrays by their shape, large objects by their class.

    Classes take it as their ``__repr__``. A text that would still be longer than about 280 characters ends with "...".

    Args:
        self: the dataclass instance, of any size.

    >>> from dataclasses import dataclass
    >>> @dataclass(eq=False)
    ... class Draws:
    ...     samples: torch.Tensor
    ...     acceptance: float
    ...     __repr__ = brief
    >>> Draws(torch.zeros(1000, 2), 0.8)
    Draws(samples=Tensor(1000, 2), acceptance=0.8)
    """
    parts = [
        f"{field.name}={_text(getattr(self, field.name))}"
        for field in dataclasses.fields(self)
        if field.repr and not field.name.startswith("_")
    ]
    name = type(self).__name__
    kept = len(parts)
    while sum(len(part) + 2 for part in parts[:kept]) > MOST_TOTAL - len(name):
        kept -= 1
    return f"{name}({', '.join(parts[:kept] + ['...'] * (kept < len(parts)))})"


def _text(value: Any) -> str:
    """A value as it prints where that is short, else its class and size."""
    if isinstance(value, torch.Tensor) and value.ndim == 0 and not value.is_meta:
        return f"{value.item():.6g}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__}({', '.join(map(str, value.shape))})"
    if isinstance(value, nn.Module):
        return f"{type(value).__name__}(...)"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | set | frozenset | dict) and (
        len(value) > 3 or any(not isinstance(part, str | int | float | bool | None) for part in value)
    ):
        return f"{type(value).__name__} of {len(value)}"
    if dataclasses.is_dataclass(value) or callable(value):
        return f"{getattr(value, '__name__', type(value).__name__)}(...)"
    text = repr(value)
    return text if len(text) <= MOST_CHARACTERS and "\n" not in text else f"{type(value).__name__}(...)"
