"""What every command of the command line has: a parser, a body, and advice after an interruption."""

from __future__ import annotations

import dataclasses
import inspect
import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import tyro

from drl_density.cli.help_texts import REGISTRY, plain_text
from drl_density.cli.output import complain, note
from drl_density.datasets.tables.writing.formats import is_standard
from drl_density.errors import DataError

__all__ = ["Command", "OnDevice", "printed_seed", "refuse_repeated", "refuse_two_results"]

LARGEST_SEED = 2**63
"""Bound of the seeds that torch and numpy both take."""


@dataclasses.dataclass(kw_only=True)
class Command:
    """A command; its fields are the options, and their docstrings the help."""

    quiet: bool = False
    """Print results and errors only, without notes and progress."""
    json: bool = False
    """Print the result as one JSON object on standard output, and everything else on standard error."""

    def check(self) -> None:
        """Refuse options that are impossible or do not go together, before anything is read.

        Raises:
            DataError: a seed that no generator takes.
        """
        seed = getattr(self, "seed", None)
        if seed is not None and not 0 <= seed < LARGEST_SEED:
            raise DataError(f"--seed must be a whole number from 0 to 2^63 - 1, got {seed}")

    @classmethod
    def parse(cls, words: Sequence[str], *, program: str) -> Self:
        """The command with the options that ``words`` give.

        Args:
            words: Words after the name of the command.
            program: Name of the program in messages.

        Raises:
            SystemExit: with status 2, an option that is unknown, has no value that it takes, or is given twice.
        """
        refuse_repeated(words, program=program)
        return tyro.cli(cls, args=list(words), prog=program, description=cls.description(), registry=REGISTRY)

    @classmethod
    def description(cls) -> str:
        """The first lines of the help of the command, from its docstring."""
        return plain_text(inspect.cleandoc(cls.__doc__ or ""))

    @classmethod
    def completed(cls, name: str) -> Any:
        """The type from which completion scripts are made.

        Args:
            name: name of the command.
        """
        return Annotated[cls, tyro.conf.subcommand(name, prefix_name=False)]

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
    """Device where the model computes, such as cuda or cuda:1. By default the CPU."""


def refuse_repeated(words: Sequence[str], *, program: str) -> None:
    """End with a message where an option is given twice, since the values of the last alone would count.

    Args:
        words: Words after the name of the command.
        program: Name of the program in messages.

    Raises:
        SystemExit: with status 2.
    """
    given = Counter(word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--") and len(word) > 2)
    twice = [name for name, count in given.items() if count > 1]
    if twice:
        complain(
            f"{program}: {twice[0]} is given {given[twice[0]]} times, and the last alone would count: give it once, with "
            f"all its values where it takes several, as in {twice[0]} a b"
        )
        raise SystemExit(2)


def printed_seed(seed: int | None) -> int:
    """The seed of a command; where none is given, one is drawn and printed, so that the command can be repeated."""
    if seed is not None:
        return seed
    drawn = secrets.randbelow(2**31)
    note(f"seed {drawn}")
    return drawn


def refuse_two_results(*, json: bool, out: Path | None) -> None:
    """Refuse a JSON object on standard output next to rows.

    Args:
        json: whether the command prints JSON.
        out: where the command writes rows; None or "-" for standard output.

    Raises:
        DataError: both on standard output.
    """
    if json and is_standard(out):
        raise DataError(
            "--json prints figures on standard output, where the rows would go: give a file for the rows by --out"
        )
