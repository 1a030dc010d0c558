"""The command line: ``drl-density fit | sample | combine | score | impute | predict | distill | reconstruct | ...``."""

from __future__ import annotations

import functools
import itertools
import operator
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import tyro

from drl_density.cli.combine import Combine
from drl_density.cli.generate import Distill, Guide, Reconstruct
from drl_density.cli.judge import Compare, Diagnose, Evaluate, Report
from drl_density.cli.learn import Demo, Fit
from drl_density.cli.rows import Impute, Predict, Sample, Score
from drl_density.density import FitSettings
from drl_density.density.storage import run_stage
from drl_density.errors import DataError, DRLDensityWarning, NumericalError, RunFolderError, WorkerLost

COMMANDS = {
    "fit": Fit,
    "sample": Sample,
    "combine": Combine,
    "score": Score,
    "impute": Impute,
    "predict": Predict,
    "distill": Distill,
    "guide": Guide,
    "reconstruct": Reconstruct,
    "evaluate": Evaluate,
    "diagnose": Diagnose,
    "report": Report,
    "compare": Compare,
    "demo": Demo,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 1 refused or failed with a message, 130 interrupted."""
    warnings.simplefilter("always", DRLDensityWarning)
    warnings.showwarning = _say_warning
    started = time.monotonic()
    command = None
    try:
        command = _parse(list(sys.argv[1:] if arguments is None else arguments))
        command.run()
    except (DataError, RunFolderError, NumericalError, WorkerLost, ValueError, OSError) as error:
        print(f"drl-density: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"drl-density: interrupted{_advice(command)}", file=sys.stderr)
        return 130
    print(f"done in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


def _parse(words: list[str]) -> Any:
    """The command, read by its own parser where it is named, so that messages speak of its options alone."""
    if words and words[0] in COMMANDS:
        kind, words, prog = COMMANDS[words[0]], words[1:], f"drl-density {words[0]}"
        if kind is Fit and (preset := _given_preset(words)) is not None:
            # The preset's numbers are the defaults, so that whatever is given wins, a usual default too.
            default = Fit(tyro.MISSING, preset=preset, settings=FitSettings.preset(preset))
            return tyro.cli(Fit, args=words, prog=prog, default=default)
        return tyro.cli(kind, args=words, prog=prog)
    return tyro.cli(functools.reduce(operator.or_, COMMANDS.values()), args=words, prog="drl-density")


def _given_preset(words: Sequence[str]) -> str | None:
    """The last one, as of any option that is given more than once."""
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--preset=") else [word])]
    given = [value for option, value in itertools.pairwise(parts) if option == "--preset"]
    return given[-1] if given else None


def _advice(command: Any) -> str:
    """What can be done with a fit that was interrupted."""
    if not isinstance(command, Fit):
        return ""
    try:
        stage = run_stage(command.out)
    except RunFolderError:
        return ""
    return {
        "saved": "; go on with the same command and --resume",
        "begun": " before anything was saved; start again with the same command and --force",
    }.get(stage, "")


def _say_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, DRLDensityWarning):
        print(f"note: {message}", file=sys.stderr)
