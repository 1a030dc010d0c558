"""The check that settings hold values of the types, and in the ranges, that their annotations state.

A range is stated with the type, as in ``num_steps: PositiveInt`` or ``width: Annotated[int, Interval(4)]``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from drl_density.records.literals import check_literals
from drl_density.shapes import is_integer

__all__ = [
    "Chance",
    "Interval",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "PositiveInt",
    "PositiveOrInfinite",
    "Share",
    "check_fields",
    "is_number",
]


@dataclass(frozen=True)
class Interval:
    """The range of a number, stated with its type in an annotation.

    Attributes:
        low: Least value.
        high: Largest value.
        is_low_open: Excludes ``low`` itself.
        is_high_open: Excludes ``high`` itself.
        has_infinity: Admits infinity, where every other number must be finite.

    >>> str(Interval(0, 1, is_high_open=True)), str(Interval(2)), str(Interval(0, is_low_open=True))
    ('must lie in [0, 1)', 'must be at least 2', 'must be positive')
    """

    low: float = -math.inf
    high: float = math.inf
    is_low_open: bool = False
    is_high_open: bool = False
    has_infinity: bool = False

    def contains(self, value: float) -> bool:
        """Whether a number lies in the range; NaN does not."""
        above = value > self.low if self.is_low_open else value >= self.low
        below = value < self.high if self.is_high_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        if self.high == math.inf:
            if self.is_low_open:
                return "must be positive" if self.low == 0 else f"must be above {self.low:g}"
            return f"must be at least {self.low:g}"
        left, right = "(" if self.is_low_open else "[", ")" if self.is_high_open else "]"
        return f"must lie in {left}{self.low:g}, {self.high:g}{right}"


PositiveInt = Annotated[int, Interval(1)]
"""An integer of at least 1."""
NonNegativeInt = Annotated[int, Interval(0)]
"""An integer of at least 0."""
PositiveFloat = Annotated[float, Interval(0, is_low_open=True)]
"""A finite number above 0."""
PositiveOrInfinite = Annotated[float, Interval(0, is_low_open=True, has_infinity=True)]
"""A number above 0, or infinity."""
NonNegativeFloat = Annotated[float, Interval(0)]
"""A finite number of at least 0."""
Share = Annotated[float, Interval(0, 1)]
"""A number from 0 to 1."""
Chance = Annotated[float, Interval(0, 1, is_high_open=True)]
"""A number from 0 up to, but not including, 1."""


def check_fields(settings: Any) -> None:
    """Refuse a dataclass instance with a value that its annotations exclude; called from ``__post_init__``.

    Literals are checked as by :func:`check_literals`. Numbers must be finite, of the stated type and in the stated range;
    a boolean is no number. Sequences become tuples, and numbers of numpy those of Python. Fields of an open type, such as
    a function, are left to the class.

    Args:
        settings: The instance to check.

    Raises:
        ValueError: A field holds something else; the message states what it may hold.

    >>> @dataclass(frozen=True)
    ... class Training:
    ...     num_steps: PositiveInt = 10
    ...     rate: PositiveFloat | None = None
    ...     def __post_init__(self) -> None:
    ...         check_fields(self)
    >>> Training(True)
    Traceback (most recent call last):
        ...
    ValueError: num_steps must be an integer, got True
    >>> Training(rate=float("nan"))
    Traceback (most recent call last):
        ...
    ValueError: rate must be a finite number or None, got nan
    """
    check_literals(settings)
    for name, hint in _hints(type(settings)).items():
        given = getattr(settings, name)
        try:
            value = _conformed(hint, given)
        except _Misfit as fault:
            raise ValueError(f"{name} {fault}, got {given!r}") from None
        if value is not given:
            object.__setattr__(settings, name, value)


def is_number(value: object) -> bool:
    """Whether a value is a finite real number of Python or numpy; booleans are not.

    >>> is_number(2), is_number(np.float32(0.5)), is_number(True), is_number(math.inf), is_number("1")
    (True, True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """The annotation of every field that is set when an instance is made."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


class _Misfit(Exception):
    """What a value must be, such as "must be an integer"."""


def _conformed(hint: Any, value: Any) -> Any:
    """The value in the type that an annotation states.

    Raises:
        _Misfit: A value of another type, or out of range.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        base, *extras = get_args(hint)
        ranges = [extra for extra in extras if isinstance(extra, Interval)]
        is_infinite = isinstance(value, float) and value == math.inf and any(one.has_infinity for one in ranges)
        found = value if is_infinite else _conformed(base, value)
        for range_ in ranges:
            if found is not None and not range_.contains(found):
                raise _Misfit(str(range_))
        return found
    if origin in (Union, types.UnionType):
        return _first_fit(get_args(hint), value)
    if origin is tuple:
        return _items(get_args(hint), value)
    if origin is Literal:
        # check_literals has checked fields of literals alone; here a literal is one of several allowed types.
        if any(value is one or (type(value) is type(one) and value == one) for one in get_args(hint)):
            return value
        raise _Misfit(f"must be one of {', '.join(map(repr, get_args(hint)))}")
    if hint in _PLAIN:
        is_one, convert, what = _PLAIN[hint]
        if not is_one(value):
            raise _Misfit(f"must be {what}")
        return value if type(value) is hint else convert(value)
    if isinstance(hint, type) and not _is_of(hint, value):
        raise _Misfit(f"must be a {hint.__name__}")
    return value


_PLAIN: dict[Any, tuple[Any, Any, str]] = {
    bool: (lambda value: isinstance(value, bool | np.bool_), bool, "True or False"),
    int: (is_integer, int, "an integer"),
    float: (is_number, float, "a finite number"),
    str: (lambda value: isinstance(value, str), str, "a string"),
    type(None): (lambda value: value is None, lambda value: value, "None"),
}
"""The check of every plain type, the conversion to it, and its name in messages."""


def _is_of(kind: type, value: Any) -> bool:
    """Whether a value is an instance; of a protocol, whether it is one as far as Python can see at run time."""
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return True
    return isinstance(value, kind) and not isinstance(value, type)


def _first_fit(hints: Sequence[Any], value: Any) -> Any:
    """The value in the first of several types that it fits.

    Raises:
        _Misfit: A value that fits none; what the first of them requires is named first.
    """
    faults: list[str] = []
    for hint in hints:
        try:
            return _conformed(hint, value)
        except _Misfit as fault:
            faults.append(str(fault))
    first, *others = dict.fromkeys(faults)
    raise _Misfit(" or ".join([first, *(other.removeprefix("must be ") for other in others)]))


def _items(hints: Sequence[Any], value: Any) -> tuple[Any, ...]:
    """A sequence as a tuple whose items have the stated types.

    Raises:
        _Misfit: No sequence, another length, or an item of another type.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _Misfit("must be a tuple")
    if len(hints) == 2 and hints[1] is Ellipsis:
        kinds = [hints[0]] * len(value)
    elif len(hints) != len(value):
        raise _Misfit(f"must be a tuple of {len(hints)} values")
    else:
        kinds = list(hints)
    try:
        found = tuple(_conformed(kind, item) for kind, item in zip(kinds, value, strict=True))
    except _Misfit as fault:
        raise _Misfit(f"must be a tuple in which every value {fault}") from None
    if isinstance(value, tuple) and all(one is other for one, other in zip(found, value, strict=True)):
        return value
    return found
