"""The sandwich of any unnormalised distribution: a base, bridges and kernel steps found on discarded runs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from drl_density.mcmc import MALA, LogDensity
from drl_density.model import EnergySequence
from drl_density.partition_function.annealing.bridges import place_bridges
from drl_density.partition_function.annealing.path import AnnealingPath, base_draws
from drl_density.partition_function.annealing.plan import AISPlan, plan_annealing
from drl_density.partition_function.annealing.reverse import reverse_anneal
from drl_density.partition_function.annealing.run import AnnealingRun, anneal
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.partition_function.bridge import bennett_by_replicates
from drl_density.partition_function.sequence_sandwich import (
    Rounds,
    Sandwich,
    SandwichSettings,
    assemble,
    end_draws,
    mixed,
    sequence_sandwich,
)
from drl_density.partition_function.target_bases.fitted_base import DefendedBase, GivenBase, fit_base
from drl_density.partition_function.target_bases.local_kernel import LocalMALA


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
        base: normalised distribution of the target's event shape, as wide as the target at least: where the first pilot
            begins, N(0, I) when not given. The base of the run itself is fitted to pilot draws, which are then thrown
            away, and keeps a share of the given one.
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
    unnormalized = log_density_over_reals(target)
    shape = target.event_shape
    given = None
    if base is not None:
        if base.event_shape != shape:
            raise ValueError(
                f"base and target must have one event shape, got {tuple(base.event_shape)} and {tuple(shape)}"
            )
        given = _flat_base(base)

    def log_density(x: Tensor) -> Tensor:
        return unnormalized(x.reshape(-1, *shape))

    settings = dataclasses.replace(settings, step_spread=settings.step_spread or 10.0)
    fitted, settings, rounds = _fit_rounds(log_density, given, shape.numel(), settings, generator)
    stage = _Stage.place(fitted, log_density, settings, generator)
    run, forward = stage.run(generator), stage.forward(settings.num_particles, generator)
    rows = None if data is None else data.flatten(1)
    return assemble(
        stage.path, stage.tuned, run, forward, stage.upward(generator), rows, stage.settings, generator, rounds=rounds
    )


def log_density_over_reals(target: Any) -> LogDensity:
    """The unnormalised log density of a distribution without batch shape, over all reals.

    Args:
        target: with ``unnormalized_log_prob`` or ``log_prob``.

    Raises:
        ValueError: a batch shape, or a support that is not all reals.

    >>> import pyro.distributions as dist
    >>> log_density_over_reals(dist.Normal(torch.zeros(2), 1.0).to_event(1))(torch.zeros(3, 2)).shape
    torch.Size([3])
    """
    if len(target.batch_shape):
        raise ValueError(
            f"expected a target without batch shape, got {tuple(target.batch_shape)}: take one element of it"
        )
    support = getattr(target, "support", None)
    if getattr(support, "is_discrete", False) or not _is_real(support):
        raise ValueError(
            f"expected a target over all reals, got support {support}: transform it to the reals first, with its Jacobian"
        )
    return getattr(target, "unnormalized_log_prob", target.log_prob)


@dataclass(frozen=True)
class _Stage:
    """A path from one base to the target with its frozen plan."""

    path: AnnealingPath
    plan: AISPlan
    settings: SandwichSettings

    @classmethod
    def place(
        cls, base: Any, log_density: LogDensity, settings: SandwichSettings, generator: torch.Generator | None
    ) -> _Stage:
        """Place bridges and tune step sizes on discarded pilots."""
        if isinstance(settings.kernel, MALA) and isinstance(base, DefendedBase):
            moves = max(1, settings.num_transitions // 2)  # each of its transitions makes two moves
            settings = dataclasses.replace(settings, kernel=LocalMALA(base), num_transitions=moves)
        ais = settings.annealing()
        path = place_bridges(base, log_density, ais, share=settings.conditional_ess, generator=generator)
        return cls(path, plan_annealing(path, ais, generator=generator), settings)

    @property
    def tuned(self) -> tuple[float, Tensor]:
        """Step size and scale at the target."""
        return self.plan.step_sizes[-1], self.plan.scales[-1]

    @property
    def plain(self) -> AISSettings:
        """Settings of walks without resampling."""
        return self.settings.annealing(resample_below=None)

    def run(self, generator: torch.Generator | None) -> AnnealingRun:
        """A walk of all particles with resampling."""
        return anneal(self.path, self.plan, self.settings.annealing(), generator=generator)

    def forward(self, num_particles: int, generator: torch.Generator | None) -> Tensor:
        """Log weights of a walk without resampling, ``(replicate, num_particles)``."""
        settings = dataclasses.replace(self.plain, num_particles=num_particles)
        return anneal(self.path, self.plan, settings, generator=generator).log_weights

    def upward(self, generator: torch.Generator | None) -> Callable[[Tensor], Tensor]:
        """Draws ``(replicate, particle, d)`` of the target to reverse log weights."""

        def weights(draws: Tensor) -> Tensor:
            rows = reverse_anneal(self.path, self.plan, self.plain, draws.flatten(0, 1), generator=generator)
            return rows.reshape(draws.shape[:2])

        return weights

    def draws(self, run: AnnealingRun, generator: torch.Generator | None) -> Tensor:
        """Draws of the target from a run: resampled by weight, then moved."""
        start = end_draws(run, generator)
        return mixed(self.path.log_densities[-1], start, self.tuned, self.settings, generator)


def _fit_rounds(
    log_density: LogDensity,
    given: GivenBase | None,
    dim: int,
    settings: SandwichSettings,
    generator: torch.Generator | None,
) -> tuple[DefendedBase, SandwichSettings, Rounds]:
    """Fit one base after another to discarded draws until three rounds agree on log Z.

    The first round goes from the given base, or from N(0, I); each later one from the base fitted to the draws before.
    """
    base: Any = given or _flat_base(dist.Normal(torch.zeros(dim), 1.0).to_event(1))
    found: list[tuple[float, float]] = []
    is_settled, few = False, max(2, settings.num_particles // 4)
    for _ in range(settings.most_rounds):
        stage = _Stage.place(base, log_density, settings, generator)
        draws = stage.draws(stage.run(generator), generator)
        if isinstance(base, DefendedBase):
            reverse = stage.upward(generator)(draws[:, :few])
            bridge = bennett_by_replicates(stage.forward(few, generator), reverse)
            found.append((bridge.log_z, bridge.standard_error))
        base = fit_base(draws, given=given)
        last = found[-3:]
        gaps = [abs(a[0] - b[0]) - 2 * math.hypot(a[1], b[1]) for a, b in itertools.combinations(last, 2)]
        is_settled = len(last) == 3 and max(gaps) < 0.02
        if is_settled:
            break
    return base, settings, Rounds(tuple(found), is_settled)


def _flat_base(base: Any) -> GivenBase:
    shape = base.event_shape
    draw = base_draws(base)
    return GivenBase(
        lambda x: base.log_prob(x.reshape(-1, *shape)),
        lambda count, generator: draw(count, generator).reshape(count, shape.numel()),
        torch.Size((shape.numel(),)),
    )


def _is_real(support: Any) -> bool:
    inner = getattr(support, "base_constraint", support)
    return (
        inner is None
        or inner is torch.distributions.constraints.real
        or type(inner).__name__ in ("_Real", "_RealVector")
    )
