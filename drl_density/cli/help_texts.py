"""Help texts of options, which state what happens when an option is not given.

tyro shows a default of ``None`` as "(default: None)". Here such an option ends with its own sentence instead, "By default
...", and settings whose docstring says "None takes 8" read "By default 8".
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Annotated, Any, get_args

import tyro
from tyro.constructors import (
    MISSING,
    MISSING_NONPROP,
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

__all__ = ["REGISTRY", "plain_text"]

REGISTRY = ConstructorRegistry()
"""Rules by which tyro makes options of the commands and of the settings."""


def plain_text(text: str) -> str:
    """Turn a description from a docstring into a help text.

    Args:
        text: description with the markup of a docstring.

    >>> plain_text("units of each layer; None takes 8, see :class:`~a.MLPNetwork`")
    'units of each layer; by default 8, see MLPNetwork'
    """
    text = re.sub(r":\w+:`~?([^`]*)`", lambda found: found[1].rpartition(".")[2], text).replace("``", "")
    text = re.sub(r"(?<!\n)[ \t]*\n[ \t]*(?!\n)", " ", text)
    return text.replace("; None takes", "; by default").replace("None takes", "By default")


class _Rule:
    """Makes the options of a dataclass as tyro does, with the texts of this module."""

    def __init__(self) -> None:
        self._is_asking_tyro = False

    def __call__(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        if self._is_asking_tyro or not dataclasses.is_dataclass(info.type):
            return None
        self._is_asking_tyro = True
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            self._is_asking_tyro = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        return dataclasses.replace(spec, fields=tuple(_explained(field) for field in spec.fields))


REGISTRY.struct_rule(_Rule())


def _explained(field: StructFieldSpec) -> StructFieldSpec:
    """The option with its own text, without "None" as its value or default."""
    hint = "(optional)" if field.default is None or field.default == () else None
    if field.default in (MISSING, MISSING_NONPROP):  # tyro takes several positional words for optional
        hint = "(required)"
    kind: Any = Annotated[field.type, tyro.conf.arg(help_behavior_hint=hint, metavar=_metavar(field.type))]
    return dataclasses.replace(field, type=kind, helptext=_lazily_plain(field.helptext))


def _lazily_plain(text: str | Callable[[], str | None] | None) -> Callable[[], str | None]:
    """The help text, read from the docstring when it is printed."""

    def found() -> str | None:
        given = text() if callable(text) else text
        return None if given is None else plain_text(given)

    return found


def _metavar(kind: Any) -> str | None:
    """What stands for the value of ``kind | None``; None where tyro's own word is right."""
    given = [part for part in get_args(kind) if part is not type(None)]
    if len(given) != 1 or len(given) == len(get_args(kind)):
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(given[0], set()))
    return spec.metavar if isinstance(spec, PrimitiveConstructorSpec) else None
