"""log Z from equilibrium draws of every density of a path: Bennett's multistate ratio and thermodynamic integration."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.partition_function.annealing.path import AnnealingPath
from drl_density.partition_function.multistate import MultistateEstimate, multistate_bennett, thermodynamic_integration
from drl_density.records.brief import brief
from drl_density.weights import Estimate, jackknife_error, log_mean_exp


@dataclass(frozen=True, eq=False)
class EquilibriumEstimates:
    """Estimates of log Z from draws of all densities of a path.

    Attributes:
        multistate: estimate by Bennett's multistate ratio.
        integration: thermodynamic integration by the trapezoid rule; its standard error leaves out the quadrature error.
        overlap: ``(K, K)``: share of density i's draws that density j explains, the base first.
    """

    multistate: Estimate
    integration: Estimate
    overlap: Tensor

    __repr__ = brief


def equilibrium_estimates(
    path: AnnealingPath, kept: Tensor, *, generator: torch.Generator | None = None
) -> EquilibriumEstimates:
    """Reweight draws of every density of a path to log Z of its target, with errors jackknifed over replicates.

    Args:
        path: densities from the base to the target; the base's own draws are made here.
        kept: draws of each density after the base, ``(replicate, density, n, *event)``, at least 2 replicates.

    Raises:
        NumericalError: densities that do not overlap.

    >>> import pyro.distributions as dist
    >>> from drl_density.partition_function import AISSettings, anneal, geometric_path, plan_annealing
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -0.5 * (x**2).sum(-1), num_bridges=3)
    >>> settings = AISSettings(num_particles=32, num_replicates=2, num_kept=8)
    >>> found = equilibrium_estimates(path, anneal(path, plan_annealing(path, settings), settings).kept)
    >>> abs(found.multistate.log_z - 0.919) < 1e-3  # log(2 pi) / 2
    True
    """
    num_replicates, num_densities, count = kept.shape[:3]
    event = kept.shape[3:]
    base = path.draw(num_replicates * count, generator).reshape(num_replicates, 1, count, *event)
    rows = torch.cat([base.to(kept), kept], 1).transpose(0, 1)  # (density, replicate, n, *event)
    flat = rows.reshape(-1, *event)
    with torch.no_grad():
        values = [log_density(flat).double().cpu() for log_density in (path.base.log_prob, *path.log_densities)]
    log_densities = torch.stack(values)
    replicate = torch.arange(num_replicates).repeat_interleave(count).repeat(num_densities + 1)
    whole = _multistate(log_densities, num_densities + 1, None)

    def jackknife(estimate: Callable[[Tensor], float]) -> float:
        return jackknife_error(
            torch.tensor([estimate(log_densities[:, replicate != r]) for r in range(num_replicates)])
        )

    def multistate_value(part: Tensor) -> float:
        return float(_multistate(part, num_densities + 1, whole.log_z).log_z[-1])

    def integral(part: Tensor) -> float:
        return thermodynamic_integration(part, _counts(part, num_densities + 1))

    return EquilibriumEstimates(
        multistate=Estimate(float(whole.log_z[-1]), jackknife(multistate_value)),
        integration=Estimate(integral(log_densities), jackknife(integral)),
        overlap=whole.overlap,
    )


def _counts(values: Tensor, num_states: int) -> Tensor:
    return torch.full((num_states,), values.shape[1] // num_states)


def _multistate(values: Tensor, num_states: int, start: Tensor | None) -> MultistateEstimate:
    counts = _counts(values, num_states)
    if start is None:
        groups = values.split(counts.tolist(), dim=1)
        # The log of the mean ratio rather than the mean log ratio: one draw of a wide base may lie ten million nats
        # down, and no Newton step comes back from such a start.
        rises = [_first_rise(groups[k], groups[k + 1], k) for k in range(num_states - 1)]
        start = torch.tensor([0.0, *rises], dtype=torch.float64).cumsum(0)
    return multistate_bennett(values, counts, start=start)


def _first_rise(here: Tensor, there: Tensor, state: int) -> float:
    """Rise of log Z from a state to the next by the mean ratio at its own draws, or at the next one's if all are lost.

    Raises:
        NumericalError: no draw of either state that the other one can have.
    """
    up = float(log_mean_exp(here[state + 1] - here[state], 0))
    if math.isfinite(up):
        return up
    down = -float(log_mean_exp(there[state] - there[state + 1], 0))
    if not math.isfinite(down):
        raise NumericalError(f"densities {state} and {state + 1} of the path share no draw: use more particles or bridges")
    return down
