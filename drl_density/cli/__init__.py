"""The command line: ``drl-density fit | sample | score | impute | predict | distill | reconstruct | evaluate | ...``."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import tyro

from drl_density.cli.generate import Distill, Reconstruct
from drl_density.cli.judge import Compare, Diagnose, Evaluate, Report
from drl_density.cli.learn import Demo, Fit
from drl_density.cli.rows import Impute, Predict, Sample, Score
from drl_density.errors import DataError, DRLDensityWarning, NumericalError, RunFolderError, WorkerLost


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 1 refused or failed with a message, 130 interrupted."""
    warnings.simplefilter("always", DRLDensityWarning)
    warnings.showwarning = _say_warning
    started = time.monotonic()
    command = None
    try:
        command = tyro.cli(
            Fit
            | Sample
            | Score
            | Impute
            | Predict
            | Distill
            | Reconstruct
            | Evaluate
            | Diagnose
            | Report
            | Compare
            | Demo,
            args=arguments,
            prog="drl-density",
        )
        command.run()
    except (DataError, RunFolderError, NumericalError, WorkerLost, ValueError, OSError) as error:
        print(f"drl-density: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        advice = "; go on with the same command and --resume" if isinstance(command, Fit) else ""
        print(f"drl-density: interrupted{advice}", file=sys.stderr)
        return 130
    print(f"done in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


def _say_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, DRLDensityWarning):
        print(f"note: {message}", file=sys.stderr)
