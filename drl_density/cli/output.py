"""Everything that a command prints: results on standard output, notes and progress on standard error.

Only this module prints. So ``--quiet`` and ``--json`` are decided in one place, for every command.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TextIO

__all__ = ["complain", "note", "plain_values", "result", "say", "shows_progress", "speaking", "summary"]


@dataclass(frozen=True)
class _Manner:
    is_quiet: bool = False
    is_json: bool = False
    out: TextIO | None = None


_PLAIN = _Manner()
_MANNER: ContextVar[_Manner] = ContextVar("manner", default=_PLAIN)


@contextlib.contextmanager
def speaking(*, quiet: bool = False, as_json: bool = False) -> Iterator[None]:
    """Choose how commands print inside the block.

    With JSON, what anything else prints on standard output, such as the stages of a fit, goes to standard error.

    Args:
        quiet: whether notes, progress and accompanying lines are left out.
        as_json: whether results are printed as JSON.
    """
    token = _MANNER.set(_Manner(quiet, as_json, sys.stdout))
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            yield
    finally:
        _MANNER.reset(token)


def shows_progress() -> bool:
    """Whether progress bars are shown."""
    return not _MANNER.get().is_quiet


def result(text: str, values: Mapping[str, Any]) -> None:
    """Print what a command found: as text, or as one JSON object with ``--json``.

    Args:
        text: lines for a person.
        values: the same figures by name; see :func:`plain_values`.
    """
    manner = _MANNER.get()
    shown = json.dumps(plain_values(values), indent=1, allow_nan=False) if manner.is_json else text
    print(shown, file=manner.out if manner.is_json else sys.stdout, flush=True)


def summary(text: str, values: Mapping[str, Any]) -> None:
    """Print figures about rows that were written: as a note, or as the JSON object of a command with ``--json``.

    Args:
        text: lines for a person.
        values: the same figures by name.
    """
    if _MANNER.get().is_json:
        result(text, values)
    else:
        note(text)


def say(text: str) -> None:
    """Print lines that accompany a result on standard output; on standard error with ``--json``, nowhere with ``--quiet``.

    Args:
        text: lines for a person.
    """
    if not _MANNER.get().is_quiet:
        print(text, file=sys.stderr if _MANNER.get().is_json else sys.stdout, flush=True)


def note(text: str, *, end: str = "\n") -> None:
    """Print a line on standard error, so that tables on standard output stay tables; nothing with ``--quiet``.

    Args:
        text: line for a person.
        end: what follows the line.
    """
    if not _MANNER.get().is_quiet:
        print(text, end=end, file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Print an error or a failure on standard error, with ``--quiet`` too.

    Args:
        text: line for a person.
    """
    print(text, file=sys.stderr, flush=True)


def plain_values(value: Any) -> Any:
    """Values that JSON can hold: paths and enumerations become strings, and infinite or undefined numbers null.

    Args:
        value: number, text, path, mapping or sequence, nested at will.

    >>> plain_values({"upper": float("inf"), "rows": (1, 2.5)})
    {'upper': None, 'rows': [1, 2.5]}
    """
    if isinstance(value, Mapping):
        return {str(name): plain_values(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(part) for part in value]
    if hasattr(value, "tolist"):  # arrays, tensors and numbers of numpy
        return plain_values(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | None) else str(value)
