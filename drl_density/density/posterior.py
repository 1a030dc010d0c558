r"""The posterior of a fitted density under any likelihood, by annealing down the noise levels.

Densities :math:`f_t(u) = \exp F_t(u)\, L(T^{-1}(u))^{\gamma_t}`, with :math:`\gamma_t` rising as :math:`\alpha_t^4` from 0
at noise to 1 at the end, lead from N(0, I) to prior times likelihood. The mean weight is unbiased for its integral, so the
evidence :math:`\int p(x) L(x)\,dx` comes with the draws.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drl_density.density.conditional import to_data
from drl_density.diagnostics import split_r_hat
from drl_density.errors import DataError
from drl_density.partition import AISSettings, AnnealingPath, anneal, plan_annealing, sequence_path
from drl_density.weights import LogPartitionEstimate, judge_estimate, resample

if TYPE_CHECKING:
    from drl_density.density.fitted import Density

LogLikelihood = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Posterior:
    """Draws of the posterior and the evidence.

    Attributes:
        draws: ``(n, *event)`` in data units.
        log_evidence: log of the prior mean of the likelihood, nats.
        standard_error: of ``log_evidence``, that of the prior's own log Z included.
        estimate: record of the annealing run, of the integral before the prior is normalised.
        r_hat: split R-hat of every column over the final chains, ``(d,)``.
        acceptance_rate: of the final chains.
    """

    draws: Tensor
    log_evidence: float
    standard_error: float
    estimate: LogPartitionEstimate
    r_hat: Tensor
    acceptance_rate: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of ``log_evidence`` by its standard error; it errs low by Jensen's inequality."""
        return self.log_evidence - 1.96 * self.standard_error, self.log_evidence + 1.96 * self.standard_error


def posterior(
    density: Density,
    log_likelihood: LogLikelihood,
    *,
    num_draws: int,
    seed: int,
    settings: AISSettings | None,
    num_final_steps: int = 200,
) -> Posterior:
    """See :meth:`drl_density.density.Density.posterior`."""
    if num_draws < 2:
        raise DataError(f"num_draws must be at least 2, got {num_draws}")
    model = density.model
    generator = torch.Generator().manual_seed(seed)
    _check(density, log_likelihood)

    def in_model_space(u: Tensor) -> Tensor:
        x = density.transform.inv(u.double()).reshape(-1, *density.event_shape)
        return log_likelihood(x).to(u.dtype)

    settings = settings or AISSettings(num_particles=512, num_replicates=8, num_transitions=4, num_pilot_particles=512)
    path = _tilted(sequence_path(model, steps_per_level=8), density, in_model_space)
    plan = plan_annealing(path, settings, generator=generator)
    run = anneal(path, plan, settings, generator=generator)
    estimate = judge_estimate(run.log_weights, bias="lower", details={"num_densities": len(path.log_densities)})
    rows = run.particles.flatten(0, 1)[resample(run.log_weights.flatten(), num_draws, generator=generator)]
    rows = rows[torch.randperm(num_draws, generator=generator)]
    kernel = dataclasses.replace(settings.kernel, scale=plan.scales[-1])
    state, kept, rate = kernel.init(rows, path.log_densities[-1]), [], 0.0
    for _ in range(num_final_steps):
        state, info = kernel.step(state, path.log_densities[-1], plan.step_sizes[-1], generator)
        rate += float(info.acceptance_probability.mean()) / num_final_steps
        kept.append(state.position[:16].flatten(1))
    return Posterior(
        draws=to_data(density, state.position).reshape(-1, *density.event_shape),
        log_evidence=estimate.value - density.estimate.value,
        standard_error=math.hypot(estimate.standard_error, density.estimate.standard_error),
        estimate=estimate,
        r_hat=split_r_hat(torch.stack(kept, 1)),
        acceptance_rate=rate,
    )


def _tilted(path: AnnealingPath, density: Density, log_likelihood: LogLikelihood) -> AnnealingPath:
    alphas = [float(density.model.schedule.alpha_at(level)) for level in path.levels]
    top, bottom = alphas[0] ** 4, alphas[-1] ** 4
    powers = [(alpha**4 - top) / (bottom - top) for alpha in alphas]

    def at(log_density: LogLikelihood, power: float) -> LogLikelihood:
        if power == 0:
            return log_density
        return lambda u: log_density(u) + power * log_likelihood(u)

    tilted = tuple(at(part, power) for part, power in zip(path.log_densities, powers, strict=True))
    return dataclasses.replace(path, log_densities=tilted)


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
