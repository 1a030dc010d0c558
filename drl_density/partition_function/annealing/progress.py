"""Progress of a running estimate of log Z, for a live line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from drl_density.weights import combine_replicates, log_mean_exp, standard_error_of_log_mean, weight_ess


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        stage: stage of the run, in words.
        done: number of parts of the stage that are done.
        total: number of parts of the stage.
        log_z: log Z of the density reached, nats; ``None`` where the stage has no estimate of its own.
        standard_error: standard error of ``log_z``, nats.
        ess: effective sample size of the weights, summed over replicates; ``None`` where nothing was weighted.

    >>> str(Progress("annealing", 5, 10, log_z=1.0, standard_error=0.1, ess=40.0))
    'log Z = 1.000 ± 0.100, ESS 40'
    >>> str(Progress("long chains", 0, 1, log_z=0.0, standard_error=0.0))
    'log Z = 0.000 ± 0.000'
    """

    stage: str
    done: int = 0
    total: int = 1
    log_z: float | None = None
    standard_error: float | None = None
    ess: float | None = None

    def __str__(self) -> str:
        if self.log_z is None or self.standard_error is None:
            return self.stage
        ess = "" if self.ess is None else f", ESS {self.ess:.0f}"
        return f"log Z = {self.log_z:.3f} ± {self.standard_error:.3f}{ess}"


Watch = Callable[[Progress], None]
"""What is called with the progress as a run proceeds."""


def weighed(stage: str, done: int, total: int, log_weights: Tensor) -> Progress:
    """Progress with the estimate from the current log weights ``(replicate, particle)``."""
    by_replicate = log_mean_exp(log_weights, 1)
    if len(by_replicate) > 1:
        value, error = combine_replicates(by_replicate)
    else:
        value, error = float(by_replicate[0]), float(standard_error_of_log_mean(log_weights[0]))
    return Progress(stage, done, total, value, error, sum(float(weight_ess(row)) for row in log_weights))
