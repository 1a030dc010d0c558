"""The sandwich of any unnormalised distribution: a base, bridges and kernel steps found on discarded runs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from drl_density.model import EnergySequence
from drl_density.partition.ais import AISPlan, AISSettings, anneal, place_bridges, plan_annealing, reverse_anneal
from drl_density.partition.annealing_path import AnnealingPath
from drl_density.partition.sandwich import (
    Sandwich,
    SandwichSettings,
    assemble,
    end_draws,
    one_replicate,
    sequence_sandwich,
)
from drl_density.weights import combine_replicates, log_mean_exp


def sandwich(
    target: Any,
    *,
    base: Any = None,
    data: Tensor | None = None,
    seed: int | None = None,
    settings: SandwichSettings | None = None,
) -> Sandwich:
    """Two-sided interval of log Z of any unnormalised distribution.

    Args:
        target: a distribution with ``unnormalized_log_prob`` or ``log_prob`` over all reals, or an
            :class:`EnergySequence`, whose own noise levels are then the path.
        base: normalised distribution of the target's event shape, the nearer to the target the better. Its tails must be
            at least as wide as the target's. When not given, a wide Gaussian is fitted to pilot draws that began at N(0, I)
            and are then thrown away.
        data: rows known to lie where the target has mass; a second set of chains starts there.
        seed: of the run.
        settings: sizes.

    Returns:
        :class:`Sandwich` with ``log_z``, ``lower``, ``upper`` and ``verdict``.

    Raises:
        ValueError: base and target of different event shapes, or a target with batch shape or bounded support.
        NumericalError: bridges that cannot be placed, or lost weights.

    >>> import pyro.distributions as dist
    >>> target = dist.Normal(torch.zeros(2), 0.5).to_event(1)
    >>> small = SandwichSettings(num_particles=64, num_replicates=4)
    >>> result = sandwich(target, base=dist.Normal(torch.zeros(2), 1.0).to_event(1), seed=0, settings=small)
    >>> result.lower < 0 < result.upper
    True
    """
    settings = settings or SandwichSettings()
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    if isinstance(target, EnergySequence):
        return sequence_sandwich(target, data=data, settings=settings, generator=generator)
    if len(target.batch_shape):
        raise ValueError(
            f"expected a target without batch shape, got {tuple(target.batch_shape)}: take one element of it"
        )
    support = getattr(target, "support", None)
    if getattr(support, "is_discrete", False) or not _is_real(support):
        raise ValueError(
            f"expected a target over all reals, got support {support}: transform it to the reals first, with its Jacobian"
        )
    log_density = getattr(target, "unnormalized_log_prob", target.log_prob)
    ais = settings.annealing()
    if base is None:
        base = _fitted_base(log_density, target.event_shape, ais, generator)
    if base.event_shape != target.event_shape:
        raise ValueError(
            f"base and target must have one event shape, got {tuple(base.event_shape)} and {tuple(target.event_shape)}"
        )
    path = place_bridges(base, log_density, ais, share=settings.conditional_ess, generator=generator)
    settings, plan, is_settled = _settle(path, settings, generator)
    run = anneal(path, plan, settings.annealing(), generator=generator)
    plain = settings.annealing(resample_below=None)
    forward = anneal(path, plan, plain, generator=generator).log_weights
    shape = (settings.num_replicates, settings.num_particles)

    def upward(draws: Tensor) -> Tensor:
        return reverse_anneal(path, plan, plain, draws.flatten(0, 1), generator=generator).reshape(shape)

    tuned = (plan.step_sizes[-1], plan.scales[-1])
    return assemble(path, tuned, run, forward, upward, data, settings, generator, is_settled=is_settled)


def _settle(
    path: AnnealingPath, settings: SandwichSettings, generator: torch.Generator | None
) -> tuple[SandwichSettings, AISPlan, bool]:
    """Settings whose number n of kernel steps gives the log Z of n / 4 and 4 n, their plan, and whether there is one."""
    tried: list[tuple[SandwichSettings, AISPlan, float, float]] = []
    num_transitions = max(1, settings.num_transitions // 4)
    if settings.most_transitions < 16 * num_transitions:
        raise ValueError(
            f"most_transitions must allow three trials, at least {16 * num_transitions} for num_transitions = "
            f"{settings.num_transitions}, got {settings.most_transitions}"
        )
    while num_transitions <= settings.most_transitions:
        changed = dataclasses.replace(settings, num_transitions=num_transitions)
        ais = changed.annealing()
        plan = plan_annealing(path, ais, generator=generator)
        weights = anneal(path, plan, dataclasses.replace(ais, num_kept=0), generator=generator).log_weights
        tried.append((changed, plan, *combine_replicates(log_mean_exp(weights, 1))))
        last = tried[-3:]
        gaps = [abs(a[2] - b[2]) - 2 * math.hypot(a[3], b[3]) for a, b in itertools.combinations(last, 2)]
        if len(last) == 3 and max(gaps) < 0.02:
            return last[1][0], last[1][1], True
        num_transitions *= 4
    return tried[-1][0], tried[-1][1], False


def _fitted_base(
    log_density: Callable[[Tensor], Tensor],
    event_shape: torch.Size,
    ais: AISSettings,
    generator: torch.Generator | None,
) -> dist.TorchDistribution:
    """A Gaussian with the mean and 1.5 times the spread of pilot draws, along their axes; two rounds from N(0, I)."""
    base = dist.Normal(torch.zeros(event_shape), 1.0).to_event(len(event_shape))
    for _ in range(2):
        path = place_bridges(base, log_density, ais, generator=generator)
        plan = plan_annealing(path, ais, generator=generator)
        pilot = anneal(path, plan, one_replicate(ais), generator=generator)
        rows = end_draws(pilot, generator).reshape(-1, event_shape.numel()).double()
        covariance = 1.5**2 * (rows.T.cov().reshape(2 * (rows.shape[1],)) + 1e-6 * torch.eye(rows.shape[1]))
        base = dist.MultivariateNormal(rows.mean(0).to(pilot.particles), covariance.to(pilot.particles))
        if len(event_shape) != 1:
            base = dist.TransformedDistribution(
                base, torch.distributions.ReshapeTransform((event_shape.numel(),), event_shape)
            )
    return base


def _is_real(support: Any) -> bool:
    inner = getattr(support, "base_constraint", support)
    return (
        inner is None
        or inner is torch.distributions.constraints.real
        or type(inner).__name__ in ("_Real", "_RealVector")
    )
