r"""The posterior of a fitted density under any likelihood, by annealing down the noise levels.

Densities :math:`f_t(u) = \exp F_t(u)\, L(T^{-1}(u))^{\gamma_t}`, with :math:`\gamma_t` rising as :math:`\alpha_t^4` from 0
at noise to 1 at the end, lead from N(0, I) to prior times likelihood. The mean weight is unbiased for its integral, so the
evidence :math:`\int p(x) L(x)\,dx` comes with the draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.density.fitted import FittedModel
from drl_density.diagnostics import split_r_hat
from drl_density.errors import DataError, NumericalError
from drl_density.inverse_problems import sample_posterior
from drl_density.partition_function import AISSettings
from drl_density.records.brief import brief
from drl_density.weights import LogPartitionEstimate, normal_interval

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
        """Ends of the normal interval of ``log_z`` by its standard error; ``log_z`` errs low by Jensen's inequality.

        Args:
            probability: chance in (0, 1) that the interval covers the truth.
        """
        return normal_interval(self.log_z, self.standard_error, probability)


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
    _check(density, log_likelihood)

    def in_model_space(u: Tensor) -> Tensor:
        x = density.transform.inv(u.double().cpu()).reshape(-1, *density.event_shape)
        values = log_likelihood(x)
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
        if power == 0:  # not 0 times the likelihood, whose logarithm may be minus infinity
            return lambda u: torch.zeros_like(u[:, 0])
        return lambda u: power * in_model_space(u)

    found = sample_posterior(
        density.model, likelihood_at, num_samples=num_samples, settings=settings, generator=generator
    )
    return Posterior(
        draws=density.to_points(found.draws),
        log_z=found.estimate.log_z - density.estimate.log_z,
        standard_error=math.hypot(found.estimate.standard_error, density.estimate.standard_error),
        estimate=found.estimate,
        r_hat=split_r_hat(found.chains.flatten(2)),
        acceptance_rate=found.acceptance_rate,
    )


def _check(density: FittedModel, log_likelihood: LogLikelihood) -> None:
    """Try the likelihood on a few stored draws."""
    probe = density.pool[:3].double().reshape(-1, *density.event_shape).requires_grad_(True)
    values = log_likelihood(probe)
    if values.shape != (len(probe),):
        raise DataError(
            f"log_likelihood must map rows {tuple(probe.shape)} to {(len(probe),)}, one number per row; it gave "
            f"{tuple(values.shape)}"
        )
    if not values.requires_grad:
        raise DataError("log_likelihood must be differentiable in the rows: compute it with torch, without detach()")
