"""Importance sampling of log Z from draws of the sequence's own base, and its check by annealing from that base."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.errors import NumericalError, Verdict
from drl_density.mcmc import LogDensity
from drl_density.model import EnergySequence
from drl_density.networks.contract import is_bounded
from drl_density.partition_function.annealing.path import AnnealingPath
from drl_density.partition_function.annealing.plan import plan_annealing
from drl_density.partition_function.annealing.run import anneal
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.partition_function.one_sided.other_side import OtherSideSettings, chosen_draws, compare, mixed_draws
from drl_density.records.given import given_or_default
from drl_density.weights import Estimate, LogPartitionEstimate, assess_weights, resample, weight_ess

CHUNK, CPU_CHUNK = 8192, 1024
"""Draws in one pass, which bounds the memory; on a CPU so few that a pass stays in its cache."""

NUM_BRIDGES, NUM_CHECKS = 20, 4
"""Densities on the annealing path that checks importance sampling, and replicates of that annealing."""

LEAST_EVEN_EFFICIENCY = 0.1
"""Importance efficiency below which draws of the base are not enough: chains follow, or paths along the noise levels."""

LEAST_DIRECT_EFFICIENCY = 0.01
"""Importance efficiency below which an interval of log Z rests on paths along the noise levels."""

OVERSAMPLING = 4
"""Draws of the base for each resampled one, as a multiple of those that one effective draw takes."""

NUM_MIXING_STEPS = 60
"""Steps of the chains that move the ends of that annealing on, before their weights are those of the other side."""

MOST_EXCESS_ERRORS, MOST_EXCESS = 4.0, 0.02
"""Excess of annealing over importance sampling that chance explains: errors, and nats below any error that matters."""


def importance_sampling(
    model: EnergySequence,
    *,
    level: float = 0.0,
    num_samples: int = 50_000,
    num_replicates: int = 10,
    generator: torch.Generator | None = None,
) -> LogPartitionEstimate:
    r"""Estimate log Z of one level from independent draws of its base.

    .. math:: \log \hat Z = \log \tfrac1M \sum_{m=1}^{M} e^{g(y_m, \lambda)}, \qquad y_m \sim b_\lambda

    The base is normalised, so the mean of the tilt's exponential is an unbiased estimate of Z. Its logarithm is a stochastic
    lower bound of log Z. It sees no mass where the base draws nothing; annealing from the base, which walks, checks that.

    Args:
        model: sequence on a base with draws at every level.
        level: continuous level whose log Z is wanted.
        num_samples: number of draws, shared out over the replicates.
        num_replicates: independent groups of draws, whose spread is the standard error; at least 2.

    Raises:
        NumericalError: a sequence without a base, which has nothing to draw from.

    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> from drl_density.schedule import NoiseSchedule
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> estimate = importance_sampling(model, num_samples=2000)
    >>> str(estimate.verdict), estimate.log_weights.shape
    ('doubtful', torch.Size([10, 200]))
    """
    if model.base is None:
        raise NumericalError("importance sampling draws from the base, and this sequence has none: use annealing")
    if model.is_base_alone:  # whatever is drawn, its weight is 1
        return assess_weights(torch.zeros(num_replicates, num_samples // num_replicates).double(), bias="none-known")
    weights = tilts(model, base_draws(model, num_replicates * (num_samples // num_replicates), level, generator), level)
    return assess_weights(weights.reshape(num_replicates, -1), bias="lower")


class CheckedEstimate(NamedTuple):
    """log Z by importance sampling, checked by annealing.

    Attributes:
        estimate: estimate by importance sampling; ``UNRELIABLE`` where annealing finds more mass.
        excess: nats by which annealing lies above it beyond what both errors explain; 0 where they explain it.
    """

    estimate: LogPartitionEstimate
    excess: float


def checked_importance_sampling(
    model: EnergySequence,
    *,
    num_samples: int = 50_000,
    num_bridges: int = NUM_BRIDGES,
    settings: AISSettings | None = None,
    generator: torch.Generator | None = None,
) -> CheckedEstimate:
    r"""Estimate log Z of level 0 by importance sampling, and look for mass that its draws did not reach.

    Particles walk from the base to the density along :math:`\log b + a\, g`. Annealing is a stochastic lower bound of log Z
    too, so a value beyond that of importance sampling, by more than both errors allow, shows mass that the draws of the base
    have not found. The verdict is then ``UNRELIABLE``. The particles' ends, resampled and moved on, are draws of the
    density: the weights :math:`\exp g` there are those of the other side, and have to agree with those of the base's draws.

    Args:
        model: sequence on a base with draws.
        num_samples: number of draws of the base.
        num_bridges: densities on the annealing path after the base.
        settings: particles and replicates of the annealing; 256 particles in 4 replicates when not given.

    Raises:
        NumericalError: a sequence without a base.

    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> from drl_density.schedule import NoiseSchedule
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> small = AISSettings(num_particles=32, num_replicates=2)
    >>> found = checked_importance_sampling(model, num_samples=2000, num_bridges=4, settings=small)
    >>> str(found.estimate.verdict), found.excess
    ('reliable', 0.0)
    """
    found = importance_sampling(model, num_samples=num_samples, generator=generator)
    if not bool(found.log_weights.any()):  # an untrained network: the density is the base, and there is nothing to find
        return CheckedEstimate(assess_weights(found.log_weights, bias="none-known"), 0.0)
    settings = given_or_default(settings, AISSettings, default=AISSettings(num_replicates=NUM_CHECKS))
    path = base_path(model, num_bridges=num_bridges)
    plan = plan_annealing(path, settings, generator=generator)
    run = anneal(path, plan, settings, generator=generator)
    annealed = assess_weights(run.log_weights, bias="lower", path=run.summary(settings))
    error = math.hypot(found.larger_error, annealed.larger_error)
    excess = annealed.log_z - found.log_z
    if excess > MOST_EXCESS_ERRORS * error + MOST_EXCESS:
        advice = (
            f"annealing from the base finds {excess:.2g} nats more than importance sampling does: the tilt has mass "
            "where the base draws nothing; train more briefly or with more dropout"
        )
        return CheckedEstimate(dataclasses.replace(found, verdict=Verdict.UNRELIABLE, advice=advice), excess)
    if not found.is_one_sided:
        return CheckedEstimate(found, 0.0)
    sizes = OtherSideSettings(num_mixing_steps=NUM_MIXING_STEPS)
    num_draws = sizes.draws_of(settings.num_particles, settings.num_replicates)
    start = chosen_draws(run.particles, run.log_weights, num_draws, generator=generator)
    mixed = mixed_draws(path, plan, settings, start, sizes.num_mixing_steps, generator)
    size = found.log_weights.numel() // settings.num_replicates
    groups = found.log_weights.flatten()[: settings.num_replicates * size].reshape(settings.num_replicates, size)
    point, target = Estimate(found.log_z, found.larger_error), path.log_densities[-1]
    other = compare(point, groups, mixed, lambda rows: tilts(model, rows, 0.0), target)
    return CheckedEstimate(assess_weights(found.log_weights, bias="lower", other_side=other), 0.0)


@dataclasses.dataclass(frozen=True)
class LevelBase:
    """The base of a sequence under the noise of one level, as the start of an annealing path.

    Attributes:
        model: sequence on a base with draws.
        level: continuous level.
    """

    model: EnergySequence
    level: float = 0.0

    def log_prob(self, value: Tensor, /) -> Tensor:
        """Normalised log density of rows ``(n, *event)``, in nats, ``(n,)``."""
        with torch.no_grad():
            return self.model.base_at(value, self.model.schedule.log_snr_at(self.level).to(value.device))

    def draw(self, num_rows: int, generator: torch.Generator | None, /) -> Tensor:
        """Independent draws ``(num_rows, *event)``."""
        return base_draws(self.model, num_rows, self.level, generator)


def base_path(model: EnergySequence, *, num_bridges: int) -> AnnealingPath:
    """The path from the base of level 0 to the density of level 0, in even steps of the tilt's share.

    Args:
        model: sequence on a base with draws.
        num_bridges: number of densities after the base, the target included.

    Raises:
        NumericalError: a sequence without a base.
    """
    if model.base is None:
        raise NumericalError("there is no base to start from: use sequence_path")
    start = LevelBase(model)

    log_snr = model.schedule.log_snr_at(0.0).to(model.device)

    def at(share: float) -> LogDensity:
        return lambda x: model.base_at(x, log_snr) + share * model.tilt_at(x, log_snr)

    shares = tuple((index + 1) / num_bridges for index in range(num_bridges))
    return AnnealingPath(start, tuple(at(share) for share in shares), start.draw, shares)


def base_draws(model: EnergySequence, num_samples: int, level: float, generator: torch.Generator | None) -> Tensor:
    """Independent draws ``(num_samples, *event)`` of the base under the noise of a level."""
    if model.base is None:
        raise NumericalError("there is no base to draw from")
    log_snr = model.schedule.log_snr_at(level)
    parts = torch.empty(num_samples).split(CHUNK)
    drawn = torch.cat([model.base.sample_at(log_snr, len(part), generator=generator) for part in parts])
    return drawn.reshape(num_samples, *model.event_shape)


def tilts(model: EnergySequence, rows: Tensor, level: float) -> Tensor:
    """Network output g of a level at rows, in nats, ``(n,)``, float64 on the CPU."""
    size = CPU_CHUNK if model.device.type == "cpu" else CHUNK
    with torch.no_grad():
        return torch.cat([model.tilt(part.to(model.device), level).double().cpu() for part in rows.split(size)])


def tilts_with_columns(model: EnergySequence, rows: Tensor, draws: Tensor, is_missing: Tensor, level: float) -> Tensor:
    """Network output at completions of rows, ``(n, places, k)``, float64 on the CPU; observed columns are mapped once.

    Args:
        model: sequence over tables.
        rows: rows ``(n, places, d)``; values at missing coordinates are ignored.
        draws: completions ``(n, places, k, d)``.
        is_missing: mask of the missing coordinates, ``(n, d)``.
        level: level of the model.
    """
    num_rows, num_places, count, _ = draws.shape
    found = draws.new_empty(num_rows, num_places, count, dtype=torch.float64)
    size = CPU_CHUNK if model.device.type == "cpu" else CHUNK
    log_snr = model.schedule.log_snr_at(level).to(model.device)
    distinct, which = is_missing.unique(dim=0, return_inverse=True)
    with torch.no_grad():
        for number, mask in enumerate(distinct):
            places = mask.nonzero().flatten()
            for some in (which == number).nonzero().flatten().split(max(1, size // (num_places * count))):
                x, values = rows[some].flatten(0, 1), draws[some][..., places].flatten(0, 1)
                one = model.tilt_with_columns(x.to(model.device), values.to(model.device), places.to(model.device), log_snr)
                found[some] = one.double().cpu().unflatten(0, (len(some), num_places))
    return found


def has_weighted_base(model: EnergySequence) -> bool:
    """Whether weighted draws of the base can stand for the sequence: a bounded network on a base.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> has_weighted_base(GaussianMixtureSequence.example().model)
    False
    """
    return model.base is not None and is_bounded(model.network)


def importance_efficiency(log_weights: Tensor) -> float:
    """Weight ESS of all draws together as a share of their number.

    >>> round(importance_efficiency(torch.zeros(2, 4)), 6), round(importance_efficiency(torch.tensor([0.0, -1e9])), 6)
    (1.0, 0.5)
    """
    return float(weight_ess(log_weights.flatten())) / log_weights.numel()


def proposals_per_draw(efficiency: float) -> int:
    """Draws of the base for each resampled one, so many that repeated choices are rare.

    >>> proposals_per_draw(1.0), proposals_per_draw(LEAST_EVEN_EFFICIENCY)
    (4, 40)
    """
    return math.ceil(OVERSAMPLING / efficiency)


def resampled_draws(
    model: EnergySequence, num_samples: int, *, num_proposals: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Draws of the base resampled by their weights, in an order of chance, and the log weights of all of them.

    Args:
        model: sequence on a base with draws.
        num_samples: how many to choose, with replacement.
        num_proposals: how many draws of the base to choose among.

    Returns:
        States of level 0 ``(num_samples, *event)`` in the model's dtype and on its device, and log weights
        ``(num_proposals,)``, float64.
    """
    proposals = base_draws(model, num_proposals, 0.0, generator)
    weights = tilts(model, proposals, 0.0)
    index = resample(weights, num_samples, generator=generator)
    # Resampling returns sorted indices, which a random order shuffles.
    index = index[torch.rand(num_samples, generator=generator).argsort()].to(proposals.device)
    return proposals[index].to(model.device, model.dtype), weights


def acceptance_of_weights(log_weights: Tensor) -> Tensor:
    r"""Acceptance of an independence Metropolis-Hastings chain whose proposals have these weights, along the last dimension.

    In equilibrium it is :math:`\sum_{ij} \min(w_i, w_j) / (n \sum_i w_i)`: 1 for even weights, 1 / n for a single one.

    Source: Liu 1996, Metropolized independent sampling.

    >>> [round(float(acceptance_of_weights(torch.tensor(w).log())), 4) for w in ([1.0, 1.0], [1.0, 3.0], [0.0, 1.0])]
    [1.0, 0.75, 0.5]
    """
    shares = torch.softmax(log_weights.double(), -1).sort(-1, descending=True).values
    count = shares.shape[-1]
    # The i-th largest weight is the smaller one of 2 i - 1 ordered pairs.
    pairs = 2 * torch.arange(count, dtype=torch.float64, device=shares.device) + 1
    return (shares * pairs).sum(-1) / count
