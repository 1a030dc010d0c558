r"""Draws of level 0 of a base with a bounded tilt, by importance resampling from the base.

For :math:`F_0 = \log b + g` draws of b are weighted by :math:`\exp g`; the density of b itself is never evaluated. A pilot
measures the importance efficiency, the weight ESS as a share of the proposals. Every draw is then chosen among four times as
many proposals as one effective draw takes, so that repeated choices are rare. Where the efficiency is low, adjusted Langevin
moves on level 0 follow, which separate the repeated ones and leave the density unchanged.

Source: Rubin 1987 (sampling importance resampling); Gilks and Berzuini 2001 (moves after resampling).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.distributions import SampleResult
from drl_density.mcmc import MALA, LogDensity, RobbinsMonro, Tuner, take_steps
from drl_density.model import EnergySequence
from drl_density.networks.contract import is_bounded
from drl_density.partition_function.importance import acceptance_of_weights, base_draws, tilts
from drl_density.records.brief import brief
from drl_density.samplers.progressive import ProgressivePlan, ProgressiveSampler, sample_progressive
from drl_density.shapes import check_num_samples
from drl_density.weights import resample, weight_ess

NUM_PILOT = 4096
"""Draws of the base that measure the efficiency, and the least number of proposals."""
OVERSAMPLING = 4
"""Proposals for each draw, as a multiple of those that one effective draw takes."""
LEAST_EFFICIENCY = 0.005
"""Efficiency below which a pilot has some 20 effective draws or fewer, and nothing is resampled."""
LEAST_EVEN_EFFICIENCY, NUM_MOVES = 0.1, 40
"""Efficiency below which resampled draws move, and the number of their moves."""
MOST_NUMBERS = 2**22
"""Numbers in the proposals of one block of draws (32 MB)."""


@outside_inference_mode
def sample_level_zero(
    model: EnergySequence, num_samples: int, *, plan: ProgressivePlan, generator: torch.Generator | None = None
) -> SampleResult:
    """Draws of level 0 by importance resampling where the base allows it, and by the progressive sampler elsewhere.

    Importance resampling takes a bounded network on a base, and an efficiency of at least 0.005.

    Args:
        plan: step sizes of the progressive sampler.

    Returns:
        draws ``(num_samples, *event)``. Resampled ones come with the ``efficiency`` of their proposals ``(1, chain)`` and
        the ``acceptance_rate`` of an independence Metropolis-Hastings chain with such proposals. Where moves follow, a
        second line of it is the mean acceptance of the moves.

    Raises:
        ValueError: a ``num_samples`` that is not a positive integer.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> found = sample_level_zero(model, 5, plan=ProgressivePlan((4.0, 0.0), (0.5,), 0.5))
    >>> found.draws.shape, round(float(found.stats["efficiency"].mean()), 6)  # the tilt is 0
    (torch.Size([5, 2]), 1.0)
    """
    check_num_samples(num_samples)
    if model.base is None or not is_bounded(model.network):
        return sample_progressive(model, num_samples, plan=plan, generator=generator)
    pilot = tilts(model, base_draws(model, NUM_PILOT, 0.0, generator), 0.0)
    efficiency = float(weight_ess(pilot)) / NUM_PILOT
    # A network that gives NaN has no efficiency, and compares false.
    if not efficiency >= LEAST_EFFICIENCY:
        return sample_progressive(model, num_samples, plan=plan, generator=generator)
    per_draw = math.ceil(OVERSAMPLING / efficiency)
    share = max(1, MOST_NUMBERS // (per_draw * model.event_shape.numel()))
    parts = [_resampled(model, len(part), per_draw, generator) for part in torch.empty(num_samples).split(share)]
    draws = torch.cat([part for part, _, _ in parts])
    rates, shares = (torch.cat([part[index] for part in parts])[None] for index in (1, 2))
    if efficiency < LEAST_EVEN_EFFICIENCY:
        draws, moved = _moved(model, draws, plan.final_step_size, generator)
        rates = torch.cat([rates.to(moved), moved])
    return SampleResult(draws, {"acceptance_rate": rates, "efficiency": shares})


@dataclass(frozen=True, eq=False)
class LevelZeroSampler:
    """The sampler policy of a fitted density: draws by :func:`sample_level_zero`, mapped to data space.

    Attributes:
        model: the sequence in model space.
        plan: step sizes of the progressive sampler.
        to_data: maps model-space rows to data space.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> sampler = LevelZeroSampler(model, ProgressivePlan((4.0, 0.0), (0.5,), 0.5), to_data=lambda u: 2 * u)
    >>> sampler(lambda x: -(x**2).sum(-1), torch.zeros(4, 2), None).draws.shape
    torch.Size([4, 2])
    """

    model: EnergySequence
    plan: ProgressivePlan
    to_data: Callable[[Tensor], Tensor]

    __repr__ = brief

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """One draw per row of ``initial``; see :class:`drl_density.distributions.SamplerPolicy`."""
        found = sample_level_zero(self.model, len(initial), plan=self.plan, generator=generator)
        stats = {name: values.cpu() for name, values in found.stats.items()}
        return SampleResult(self.to_data(found.draws).to(initial), stats)


def level_zero_sampler(
    model: EnergySequence, plan: ProgressivePlan, to_data: Callable[[Tensor], Tensor]
) -> LevelZeroSampler | ProgressiveSampler:
    """The sampler policy that fits a sequence: importance resampling for a bounded network on a base.

    Args:
        model: the sequence in model space.
        plan: step sizes of the progressive sampler.
        to_data: maps model-space rows to data space.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> plan = ProgressivePlan((4.0, 0.0), (0.5,), 0.5)
    >>> type(level_zero_sampler(GaussianMixtureSequence.example().model, plan, to_data=lambda u: u)).__name__
    'ProgressiveSampler'
    """
    if model.base is not None and is_bounded(model.network):
        return LevelZeroSampler(model, plan, to_data)
    return ProgressiveSampler(model, plan, to_data)


def _resampled(
    model: EnergySequence, num_samples: int, per_draw: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws, and for each of them the acceptance and the efficiency of its block's proposals ``(num_samples,)``."""
    proposals = base_draws(model, max(NUM_PILOT, per_draw * num_samples), 0.0, generator)
    weights = tilts(model, proposals, 0.0)
    index = resample(weights, num_samples, generator=generator)
    # Resampling returns sorted indices, which a random order shuffles.
    index = index[torch.rand(num_samples, generator=generator).argsort()].to(proposals.device)
    figures = (acceptance_of_weights(weights), weight_ess(weights) / len(weights))
    rate, share = (value.expand(num_samples) for value in figures)
    return proposals[index].to(model.device, model.dtype), rate, share


def _moved(
    model: EnergySequence, draws: Tensor, step_size: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Draws after Langevin moves on level 0, and the moves' acceptance ``(1, chain)``.

    The step size adapts along chains that are thrown away, so that the moves leave the density unchanged.
    """
    kernel, log_snr = MALA(), model.schedule.log_snr_at(0)

    def log_density(x: Tensor) -> Tensor:
        return model.log_density_at(x, log_snr)

    tuner = Tuner(RobbinsMonro(kernel.target_acceptance, gain=1.0, decay=0.5), step_size)
    few = kernel.init(draws[:256], log_density)
    take_steps(kernel, few, log_density, num_steps=NUM_MOVES, step_size=tuner, generator=generator)
    tuner.freeze()
    start = kernel.init(draws, log_density)
    taken = take_steps(
        kernel, start, log_density, num_steps=NUM_MOVES, step_size=float(tuner.current), generator=generator
    )
    return taken.state.position, taken.acceptance_rate[None]
