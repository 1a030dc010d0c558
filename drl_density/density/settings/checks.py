"""The guard on values that are still to be chosen from the data."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["chosen"]

_Value = TypeVar("_Value")


def chosen(value: _Value | None, name: str) -> _Value:
    """The value of a field that resolved settings always have.

    Raises:
        ValueError: The field is still None.
    """
    if value is None:
        raise ValueError(f"{name} is not chosen yet: call FitSettings.resolve first")
    return value
