"""What every command of the command line has: a parser, a body, and advice after an interruption."""

from __future__ import annotations

import dataclasses
import secrets
import sys
from collections.abc import Sequence
from typing import Any, Self

import tyro

__all__ = ["Command", "OnDevice", "printed_seed"]


@dataclasses.dataclass(kw_only=True)
class Command:
    """A command; its fields are the options, and their docstrings the help."""

    @classmethod
    def parse(cls, words: Sequence[str], *, program: str) -> Self:
        """The command with the options that ``words`` give.

        Args:
            words: Words after the name of the command.
            program: Name of the program in messages.
        """
        return tyro.cli(cls, args=list(words), prog=program)

    def run(self) -> Any:
        """Do what the command is for."""
        raise NotImplementedError

    def advice(self) -> str:
        """How to continue after an interruption, to be appended to a message."""
        return ""


@dataclasses.dataclass(kw_only=True)
class OnDevice(Command):
    """A command that computes with a density."""

    device: str | None = None
    """Device where the model computes, such as cuda or cuda:1; the CPU when not given."""


def printed_seed(seed: int | None) -> int:
    """The seed of a command; where none is given, one is drawn and printed, so that the command can be repeated."""
    if seed is not None:
        return seed
    drawn = secrets.randbelow(2**31)
    print(f"seed {drawn}", file=sys.stderr)
    return drawn
