"""Walks from the target back to the base, and the likelihood of rows under the annealing sampler itself."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.log_weights import carried_weights
from drl_density.mcmc import take_steps
from drl_density.partition_function.annealing.path import AnnealingPath, evaluated
from drl_density.partition_function.annealing.plan import AISPlan
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.weights import log_mean_exp


@outside_inference_mode
def reverse_anneal(
    path: AnnealingPath,
    plan: AISPlan,
    settings: AISSettings,
    draws: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Log weights of walks from draws of the target back to the base, in the sense of the forward walk.

    With exact draws E[1/w] = 1/Z, so minus the log-mean-exp of minus the weights is a stochastic upper bound of log Z.
    With other draws the bound holds only as far as they are draws of the target.

    Args:
        path: densities of the forward walk, whose kernels are reversible.
        plan: step sizes and scales of the forward walk.
        settings: settings of the forward walk; resampling plays no part here.
        draws: rows ``(n, *event)``, taken for draws of the target.

    Returns:
        Log weights ``(n,)``, float64, infinity for a walk through a place where the base or a density before has none.

    Source: Grosse, Ghahramani and Adams 2015 (bidirectional Monte Carlo).

    >>> import pyro.distributions as dist
    >>> from drl_density.partition_function import AISSettings, geometric_path, plan_annealing
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -2 * (x**2).sum(-1), num_bridges=5)
    >>> settings = AISSettings(num_pilot_particles=16)
    >>> reverse_anneal(path, plan_annealing(path, settings), settings, torch.randn(8, 1) / 2).shape
    torch.Size([8])
    """
    return torch.cat([_reverse_rows(path, plan, settings, rows, generator) for rows in draws.split(settings.max_rows)])


def _reverse_rows(
    path: AnnealingPath, plan: AISPlan, settings: AISSettings, x: Tensor, generator: torch.Generator | None
) -> Tensor:
    weights = torch.zeros(len(x), dtype=torch.float64)
    last = len(path.log_densities) - 1
    for index in range(last, -1, -1):
        log_density = path.log_densities[index]
        kernel = settings.kernel.with_scale(plan.scales[index])
        state, _, _ = take_steps(
            kernel,
            kernel.init(x, log_density),
            log_density,
            num_steps=settings.num_transitions,
            step_size=plan.step_sizes[index],
            spread=settings.step_spread,
            generator=generator,
        )
        x = state.position
        below = path.log_densities[index - 1] if index else path.base.log_prob
        # Backwards a weight is the inverse of one of a forward walk, and a walk that no forward one can take has weight
        # infinity: it is dead in the inverse weights.
        weights = -carried_weights(-weights, evaluated(below, x), state.log_density.double().cpu())
    return weights


def annealing_log_likelihood(
    path: AnnealingPath,
    plan: AISPlan,
    settings: AISSettings,
    x: Tensor,
    *,
    num_chains: int = 8,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Log-likelihood of rows under the annealing sampler itself, ``(n,)``, float64; it errs low.

    This is another density than the target's: that of an annealed particle without resampling. The mean over walks of
    f(x) / w is unbiased for it, with w the weight of a reverse walk from x.

    Args:
        path: densities of the forward walk.
        plan: step sizes and scales of the forward walk.
        settings: settings of the forward walk; resampling plays no part here.
        x: rows ``(n, *event)`` to score.
        num_chains: number of reverse walks from each row.

    Source: Burda, Grosse and Salakhutdinov 2015 (RAISE).

    >>> import pyro.distributions as dist
    >>> from drl_density.partition_function import AISSettings, geometric_path, plan_annealing
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -2 * (x**2).sum(-1), num_bridges=5)
    >>> settings = AISSettings(num_pilot_particles=16)
    >>> annealing_log_likelihood(path, plan_annealing(path, settings), settings, torch.zeros(3, 1)).shape
    torch.Size([3])
    """
    rows = x.repeat_interleave(num_chains, 0)
    weights = reverse_anneal(path, plan, settings, rows, generator=generator).reshape(len(x), num_chains)
    return evaluated(path.log_densities[-1], x) + log_mean_exp(-weights, 1)
