"""The outcome of one run, and what counts as right."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAR_OFF, FAR_OFF_HALF_WIDTHS = 0.1, 3.0
"""Nats, and half-widths of the interval, from which on a reliable run is wrong."""


@dataclass(frozen=True)
class Run:
    """One method on one target.

    Attributes:
        target: name of the target.
        family: family of the target.
        dim: number of free coordinates.
        truth: exact log Z; infinity where the integral diverges.
        method: "sandwich" or the name of another package's method.
        seed: seed of the run.
        particles: particles per replicate of the sandwich.
        status: "done", "error", "time" where the run passed its limit, or "absent" where a package is not installed.
        log_z: point estimate.
        lower: lower end of the method's own 95 % interval.
        upper: upper end of that interval.
        verdict: verdict of the sandwich; of others "-".
        remark: advice of the sandwich, remark on the method, or the message of an error.
        seconds: seconds of processor time without imports.
        commit: commit of this package, with a plus sign where its files differ.
        error: class of the exception.
        evaluations: points at which the log density was evaluated, with or without its gradient, pilots included.
    """

    target: str
    family: str
    dim: int
    truth: float
    method: str
    seed: int
    particles: int
    status: str
    log_z: float = math.nan
    lower: float = math.nan
    upper: float = math.nan
    verdict: str = "-"
    remark: str = ""
    seconds: float = math.nan
    commit: str = ""
    error: str = ""
    evaluations: int = 0

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells runs apart: method, target, seed and particles."""
        return (self.method, self.target, self.seed, self.particles)

    @property
    def off(self) -> float:
        """Estimate less truth, in nats; infinity for any finite number of an improper target."""
        return self.log_z - self.truth if math.isfinite(self.truth) else math.inf

    @property
    def half(self) -> float:
        """Half the width of the interval; never below what float64 resolves of log Z."""
        return max(0.5 * (self.upper - self.lower), 1e-6 + 1e-12 * abs(self.truth)) if self.truth < math.inf else math.nan

    @property
    def is_reliable(self) -> bool:
        """Whether the verdict is "reliable"; methods without a verdict always claim their interval."""
        return self.status == "done" and self.verdict in ("reliable", "-")

    @property
    def covers(self) -> bool:
        """Whether the interval holds the truth."""
        return math.isfinite(self.truth) and abs(0.5 * (self.upper + self.lower) - self.truth) <= self.half

    @property
    def is_wrong(self) -> bool:
        """Whether a run that claims to be right is off by more than three half-widths or 0.1 nats."""
        if not self.is_reliable:
            return False
        return not (abs(self.off) <= FAR_OFF and abs(self.off) <= FAR_OFF_HALF_WIDTHS * self.half)


def read_runs(path: Path) -> list[Run]:
    """Read the runs of a file of JSON lines; the last one of a key counts."""
    if not path.exists():
        return []
    fields = {field.name for field in dataclasses.fields(Run)}
    found: dict[Any, Run] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        run = Run(**{name: value for name, value in json.loads(line).items() if name in fields})
        found[run.key] = run
    return list(found.values())


def add_run(path: Path, run: Run) -> None:
    """Append a run to the file, as one line written at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(run)) + "\n")
