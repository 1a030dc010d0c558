r"""The posterior of a fitted density under any likelihood, by annealing down the noise levels.

Densities :math:`f_t(u) = \exp F_t(u)\, L(T^{-1}(u))^{\gamma_t}`, with :math:`\gamma_t` rising as :math:`\alpha_t^4` from 0
at noise to 1 at the end, lead from N(0, I) to prior times likelihood. The mean weight is unbiased for its integral, so the
evidence :math:`\int p(x) L(x)\,dx` comes with the draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drl_density.density.fitted import FittedModel
from drl_density.diagnostics import split_r_hat
from drl_density.errors import DataError, NumericalError
from drl_density.inverse_problems import sample_posterior
from drl_density.partition_function import AISSettings
from drl_density.records.brief import brief
from drl_density.records.intervals import student_interval
from drl_density.weights import LogPartitionEstimate

LogLikelihood = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of the posterior, and the evidence.

    Attributes:
        draws: draws ``(num_samples, *event)`` in data units, each the end of an adjusted chain from a weighted particle.
        log_z: log evidence, the logarithm of the likelihood's mean under the prior, nats.
        standard_error: error of ``log_z``, which includes that of the prior's own log Z.
        estimate: record of the annealing run, whose integral is that of the unnormalised prior times the likelihood.
        r_hat: split R-hat of every column over the final chains, ``(d,)``.
        acceptance_rate: mean acceptance of the final chains.
    """

    draws: Tensor
    log_z: float
    standard_error: float
    estimate: LogPartitionEstimate
    r_hat: Tensor
    acceptance_rate: float

    __repr__ = brief

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the interval of ``log_z`` by Student's t over the replicates; ``log_z`` errs low by Jensen's inequality.

        Args:
            probability: chance in (0, 1) that the interval covers the truth.
        """
        replicates = len(self.estimate.log_weights)
        return student_interval(self.log_z, self.standard_error, replicates, probability)


def posterior(
    density: FittedModel,
    log_likelihood: LogLikelihood,
    *,
    num_samples: int = 1000,
    settings: AISSettings | None = None,
    generator: torch.Generator | None = None,
) -> Posterior:
    """See :meth:`drl_density.density.Density.posterior`."""
    if num_samples < 2:
        raise DataError(f"num_samples must be at least 2, got {num_samples}")
    if not callable(log_likelihood):
        raise DataError(
            f"log_likelihood must be a function of rows that returns one number per row, got {type(log_likelihood).__name__}"
        )
    _check(density, log_likelihood)

    tried = _Tried()

    def in_model_space(u: Tensor) -> Tensor:
        x = density.transform.inv(u.double().cpu()).reshape(-1, *density.event_shape)
        values = log_likelihood(x)
        tried.count(values)
        lost = int((values.isnan() | (values == math.inf)).sum())
        if lost:
            raise NumericalError(
                f"log_likelihood gave NaN or +inf at {lost} of {len(x)} rows that the sampler reached: expected a number, "
                "or -inf where the likelihood is 0; check it far outside the data, where annealing begins"
            )
        return values.to(u)

    schedule = density.model.schedule
    top, bottom = (float(schedule.alpha_at(level)) ** 4 for level in (density.model.num_levels, 0))

    def likelihood_at(level: float) -> LogLikelihood:
        power = (float(schedule.alpha_at(level)) ** 4 - top) / (bottom - top)
        if power == 0:  # where 0 times minus infinity would be NaN
            return lambda u: torch.zeros(len(u), dtype=u.dtype, device=u.device)
        return lambda u: power * in_model_space(u)

    options = {"num_samples": num_samples, "settings": settings, "generator": generator}
    try:
        found = sample_posterior(density.model, likelihood_at, **options)
    except NumericalError as error:
        raise NumericalError(f"{error}{tried.advice}") from error
    return Posterior(
        draws=density.to_points(found.draws),
        log_z=found.estimate.log_z - density.estimate.log_z,
        standard_error=math.hypot(found.estimate.standard_error, density.estimate.standard_error),
        estimate=found.estimate,
        r_hat=split_r_hat(found.chains.flatten(2)),
        acceptance_rate=found.acceptance_rate,
    )


@dataclass
class _Tried:
    """Rows at which a likelihood was evaluated, and at how many it was 0."""

    rows: int = 0
    zeros: int = 0

    def count(self, values: Tensor) -> None:
        """Add the log-likelihoods of some rows."""
        self.rows, self.zeros = self.rows + len(values), self.zeros + int((values == -math.inf).sum())

    @property
    def advice(self) -> str:
        """What an error of the walk may come from, for the end of its message."""
        if not self.zeros:
            return ""
        return (
            f"; the likelihood was 0 at {self.zeros} of {self.rows} rows, and particles cannot cross where it is: use more "
            "num_particles (AISSettings), or a likelihood that falls off gradually"
        )


def _check(density: FittedModel, log_likelihood: LogLikelihood) -> None:
    """Try the likelihood on a few stored draws.

    Raises:
        DataError: something else than one floating-point number per row.
    """
    probe = density.pool[:3].double().reshape(-1, *density.event_shape).requires_grad_(True)
    count = len(probe)
    try:
        values: Any = log_likelihood(probe)
    except Exception as error:
        error.add_note(
            f"log_likelihood was called with float64 rows {tuple(probe.shape)}, and must give -inf, not an error, where the "
            "likelihood is 0 (validate_args=False for distributions of Pyro)"
        )
        raise
    if not isinstance(values, Tensor):
        raise DataError(f"log_likelihood must return a tensor {(count,)}, one number per row; it gave {values!r:.80}")
    if values.shape != (count,):
        shape = tuple(values.shape)
        cure = ""
        if shape[:1] == (count,):
            cure = ": sum what one row gives over the last dimensions, as in .sum(-1)"
        elif not shape:
            cure = ": it may sum over the rows too"
        raise DataError(
            f"log_likelihood must map rows {tuple(probe.shape)} to {(count,)}, one number per row; it gave {shape}{cure}"
        )
    if not values.is_floating_point():
        raise DataError(
            f"log_likelihood must return logarithms, it gave {values.dtype}: for a likelihood of 0 or 1 return "
            "torch.where(condition, 0.0, -math.inf)"
        )
