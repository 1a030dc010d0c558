"""Checks that settings share, and the guard on values that are still to be chosen from the data."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["check_least", "check_share", "chosen"]

_Value = TypeVar("_Value")


def check_least(settings: Any, **least: float) -> None:
    """Refuse a field below its least value; None passes, since it is chosen later.

    Raises:
        ValueError: A field is below its least value; the message names both.
    """
    for name, value in least.items():
        given = getattr(settings, name)
        if given is not None and not given >= value:
            raise ValueError(f"{name} must be at least {value}, got {given}")


def check_share(settings: Any, *names: str, includes_one: bool = True) -> None:
    """Refuse a field outside [0, 1], or outside [0, 1) without ``includes_one``; None passes.

    Raises:
        ValueError: A field lies outside; the message names the interval.
    """
    for name in names:
        given = getattr(settings, name)
        if given is not None and not (0 <= given < 1 or (includes_one and given == 1)):
            raise ValueError(f"{name} must lie in [0, 1{']' if includes_one else ')'}, got {given}")


def chosen(value: _Value | None, name: str) -> _Value:
    """The value of a field that resolved settings always have.

    Raises:
        ValueError: The field is still None.
    """
    if value is None:
        raise ValueError(f"{name} is not chosen yet: call FitSettings.resolve first")
    return value
