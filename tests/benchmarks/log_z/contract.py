"""What a rival is given and what it has to claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drl_density.testing import KnownTarget


class NotInstalledError(Exception):
    """A rival's package is not installed."""


@dataclass(frozen=True)
class Claim:
    """An estimate with the 95 % interval that the method itself claims.

    Attributes:
        log_z: point estimate, nats.
        lower: lower end of the method's own interval.
        upper: upper end of the method's own interval.
        remark: sizes of the run, and how it ended.
    """

    log_z: float
    lower: float
    upper: float
    remark: str = ""


Rival = Callable[[KnownTarget, int, float], Claim]
"""A method: target, seed, and the processor seconds that it aims at."""
