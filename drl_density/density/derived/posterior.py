r"""The posterior of a fitted density under any likelihood, by annealing down the noise levels.

Densities :math:`f_t(u) = \exp F_t(u)\, L(T^{-1}(u))^{\gamma_t}`, with :math:`\gamma_t` rising as :math:`\alpha_t^4` from 0
at noise to 1 at the end, lead from N(0, I) to prior times likelihood. The mean weight is unbiased for its integral, so the
evidence :math:`\int p(x) L(x)\,dx` comes with the draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drl_density.density.conditioning.condition import to_data
from drl_density.diagnostics import split_r_hat
from drl_density.errors import DataError, NumericalError
from drl_density.inverse_problems import sample_posterior
from drl_density.inverse_problems.annealed_posterior import LogLikelihood
from drl_density.partition_function import AISSettings
from drl_density.weights import LogPartitionEstimate, normal_quantile

if TYPE_CHECKING:
    from drl_density.density.fitted import Density


@dataclass(frozen=True)
class Posterior:
    """Draws of the posterior and the evidence.

    Attributes:
        draws: ``(n, *event)`` in data units.
        log_z: log of the prior mean of the likelihood, nats.
        standard_error: of ``log_z``, that of the prior's own log Z included.
        estimate: record of the annealing run, of the integral before the prior is normalised.
        r_hat: split R-hat of every column over the final chains, ``(d,)``.
        acceptance_rate: of the final chains.
    """

    draws: Tensor
    log_z: float
    standard_error: float
    estimate: LogPartitionEstimate
    r_hat: Tensor
    acceptance_rate: float

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the normal interval of ``log_z`` by its standard error; ``log_z`` errs low by Jensen's inequality."""
        half_width = normal_quantile(probability) * self.standard_error
        return self.log_z - half_width, self.log_z + half_width


def posterior(
    density: Density,
    log_likelihood: LogLikelihood,
    *,
    num_draws: int,
    seed: int,
    settings: AISSettings | None,
) -> Posterior:
    """See :meth:`drl_density.density.Density.posterior`."""
    if num_draws < 2:
        raise DataError(f"num_draws must be at least 2, got {num_draws}")
    model = density.model
    generator = torch.Generator().manual_seed(seed)
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

    schedule = model.schedule
    top, bottom = (float(schedule.alpha_at(level)) ** 4 for level in (model.num_levels, 0))

    def likelihood_at(level: float) -> LogLikelihood:
        power = (float(schedule.alpha_at(level)) ** 4 - top) / (bottom - top)
        return lambda u: power * in_model_space(u)

    found = sample_posterior(model, likelihood_at, num_samples=num_draws, settings=settings, generator=generator)
    return Posterior(
        draws=to_data(density, found.draws).reshape(-1, *density.event_shape),
        log_z=found.estimate.log_z - density.estimate.log_z,
        standard_error=math.hypot(found.estimate.standard_error, density.estimate.standard_error),
        estimate=found.estimate,
        r_hat=split_r_hat(found.chains.flatten(2)),
        acceptance_rate=found.acceptance_rate,
    )


def _check(density: Density, log_likelihood: LogLikelihood) -> None:
    probe = density.pool[:3].double().reshape(-1, *density.event_shape).requires_grad_(True)
    values = log_likelihood(probe)
    if values.shape != (len(probe),):
        raise DataError(
            f"log_likelihood must map rows {tuple(probe.shape)} to {(len(probe),)}, one number per row; it gave "
            f"{tuple(values.shape)}"
        )
    if not values.requires_grad:
        raise DataError("log_likelihood must be differentiable in the rows: compute it with torch, without detach()")
