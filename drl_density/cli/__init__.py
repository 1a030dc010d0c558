"""The command line: ``drl-density fit | sample | combine | score | impute | predict | distill | reconstruct | ...``.

The table below names the module of each command, which is imported when the command is chosen. So ``drl-density --help``
imports neither torch nor anything else that takes time.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from drl_density import __version__
from drl_density.cli.output import complain, note, speaking
from drl_density.errors import DataError, DRLDensityWarning, NumericalError, RunFolderError, WorkerLost

if TYPE_CHECKING:
    from drl_density.cli.command import Command

PROGRAM = "drl-density"
SHELLS = ("bash", "zsh")
"""Shells for which completion scripts are made."""


@dataclass(frozen=True)
class Entry:
    """One line of the table of commands.

    Attributes:
        summary: One sentence about the command.
        module: Module below ``drl_density.cli`` that defines it.
        name: Class of the command in that module.
    """

    summary: str
    module: str
    name: str

    def load(self) -> type[Command]:
        """The class of the command; imports its module."""
        return getattr(importlib.import_module(f"drl_density.cli.{self.module}"), self.name)


COMMANDS = {
    "fit": Entry(
        "Learn a density from a table, small images or toy data, and save it in a run folder.", "learn", "Fit"
    ),
    "sample": Entry("Draw rows from a fitted density.", "rows.sample", "Sample"),
    "combine": Entry("Draw from a product, a power or a mixture of fitted densities.", "combine", "Combine"),
    "score": Entry("Write the log density of every row of a table.", "rows.score", "Score"),
    "outliers": Entry("Write how unusual every row of a table is, with p-values.", "rows.outliers", "Outliers"),
    "impute": Entry("Fill the missing values of a table by draws.", "rows.impute", "Impute"),
    "predict": Entry("Predict one column of a table from the others.", "rows.predict", "Predict"),
    "distill": Entry("Train a fast generator of draws.", "generate", "Distill"),
    "guide": Entry("Write the density of one label as a run of its own.", "generate", "Guide"),
    "reconstruct": Entry("Draw points that explain a linear measurement.", "generate", "Reconstruct"),
    "evaluate": Entry("Estimate the likelihood of rows, with an interval for log Z.", "judge", "Evaluate"),
    "diagnose": Entry("Run long chains from data and from noise, and compare them.", "judge", "Diagnose"),
    "report": Entry("Print the evaluations of a run and write its page again.", "judge", "Report"),
    "compare": Entry("Compare the log densities of several fits on the same rows.", "judge", "Compare"),
    "demo": Entry("Fit a bundled real data set and compare it with other estimators.", "learn", "Demo"),
}
"""Every command by its name on the command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``drl-density``.

    Args:
        arguments: Words of the command line; those of the process when not given.

    Returns:
        The exit status: 0 done, 1 refused or failed with a message, 2 no such command or option, 130 interrupted, 141
        when the reader of standard output has left, as in ``| head``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--version"]:
        print(f"{PROGRAM} {__version__}")
        return 0
    if words[:1] == ["--completion"]:
        return _print_completion(words[1:])
    if not words or words[0] in ("-h", "--help"):
        print(overview(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] not in COMMANDS:
        close = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(COMMANDS)}"
        print(f"{PROGRAM}: there is no command {words[0]!r}; {hint}", file=sys.stderr)
        return 2
    warnings.simplefilter("always", DRLDensityWarning)
    warnings.showwarning = _print_warning
    started = time.monotonic()
    command = None
    try:
        command = COMMANDS[words[0]].load().parse(words[1:], program=f"{PROGRAM} {words[0]}")
        with speaking(quiet=command.quiet, as_json=command.json):
            command.check()
            command.run()
            note(f"done in {time.monotonic() - started:.0f} s")
    except BrokenPipeError:
        _close_standard_output()
        return 141
    except (DataError, RunFolderError, NumericalError, WorkerLost, ValueError, OSError) as error:
        complain(f"{PROGRAM}: {error}")
        return 1
    except KeyboardInterrupt:
        advice = "" if command is None else command.advice()
        complain(f"{PROGRAM}: interrupted{advice}")
        return 130
    return 0


def _print_completion(words: Sequence[str]) -> int:
    """Print the completion script of a shell; returns the exit status."""
    if len(words) != 1 or words[0] not in SHELLS:
        complain(f"{PROGRAM}: --completion wants a shell, {' or '.join(SHELLS)}; got {' '.join(words) or 'nothing'}")
        return 2
    import tyro

    kinds = tuple(entry.load().completed(name) for name, entry in COMMANDS.items())
    config = (tyro.conf.AvoidSubcommands,)
    script = io.StringIO()
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        # The type is made when the program runs, which no checker can follow.
        tyro.cli(Union[kinds], prog=PROGRAM, args=["--tyro-print-completion", words[0]], config=config)  # pyright: ignore  # noqa: UP007
    # A description of several lines would be taken for several choices.
    print(
        "\n".join(line.replace("\\n", " ") if "_SPEC = " in line else line for line in script.getvalue().splitlines())
    )
    return 0


def _close_standard_output() -> None:
    """Send the rest of standard output nowhere, since Python would complain at its end that nobody reads it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def overview() -> str:
    """The text of ``drl-density --help``: every command with one sentence.

    >>> print(overview().splitlines()[0])
    usage: drl-density COMMAND [OPTIONS]
    """
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [OPTIONS]",
            "",
            "Density estimation with energy-based models, whose likelihood carries an interval and a verdict.",
            "",
            "commands:",
            *lines,
            "",
            "options without a command:",
            "  --version            Print the version.",
            f"  --completion SHELL   Print a completion script for {' or '.join(SHELLS)}.",
            "",
            f"`{PROGRAM} COMMAND --help` lists the options of a command. Every command takes --quiet and --json.",
        ]
    )


def _print_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, DRLDensityWarning):
        note(f"note: {message}")
