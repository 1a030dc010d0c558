"""The check that settings hold one of the values that their annotations list."""

from __future__ import annotations

import dataclasses
import functools
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["check_literals"]


def check_literals(settings: Any) -> None:
    """Refuse a dataclass instance with a value that its annotations exclude; called from ``__post_init__``.

    Two kinds of field are checked: those annotated with ``Literal``, and those whose annotation is a dataclass or a union
    of dataclasses. Fields of every other kind are left to the class itself.

    Args:
        settings: The instance to check.

    Raises:
        ValueError: A field holds something else; the message lists what it may hold.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Rate:
    ...     decay: Literal["cosine", "constant"] = "cosine"
    ...     def __post_init__(self) -> None:
    ...         check_literals(self)
    >>> Rate("linear")
    Traceback (most recent call last):
        ...
    ValueError: decay must be one of 'cosine', 'constant', got 'linear'
    """
    for name, (values, kinds) in _choices(type(settings)).items():
        given = getattr(settings, name)
        if isinstance(given, kinds) or any(given is value or _equal(given, value) for value in values):
            continue
        allowed = [*map(repr, values), *(kind.__name__ for kind in kinds)]
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {given!r}")


def _equal(given: Any, value: Any) -> bool:
    """Equality within one type, so that True does not pass for 1 and a tensor is never compared."""
    is_one_kind = isinstance(given, type(value)) and isinstance(given, bool) == isinstance(value, bool)
    return is_one_kind and given == value


@functools.cache
def _choices(kind: type) -> dict[str, tuple[tuple[Any, ...], tuple[type, ...]]]:
    """Allowed values and allowed classes of every field that lists its choices."""
    hints = get_type_hints(kind)
    found = {field.name: _parts(hints[field.name]) for field in dataclasses.fields(kind)}
    return {name: parts for name, parts in found.items() if parts is not None}


def _parts(hint: Any) -> tuple[tuple[Any, ...], tuple[type, ...]] | None:
    """The values and classes that one annotation lists, or None where it allows anything else."""
    values: list[Any] = []
    kinds: list[type] = []
    for part in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if get_origin(part) is Literal:
            values += get_args(part)
        elif part is type(None):
            values.append(None)
        elif dataclasses.is_dataclass(part) and isinstance(part, type):
            kinds.append(part)
        else:
            return None
    return (tuple(values), tuple(kinds)) if kinds or any(value is not None for value in values) else None
