"""The papers' own samplers: K unadjusted Langevin steps per level, from the noisier state or an initialiser's proposal.

These are the draws of which the papers report their figures. A short unadjusted chain is not a sample of the model's
density (at level 0 of the T6 setting it moves by a tenth of the width where the density is flat), so no estimate
of this package rests on them; :func:`~drl_density.samplers.sample_progressive` has adjusted chains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.distributions import SampleResult
from drl_density.model import EnergySequence
from drl_density.samplers.progressive import StepRecord
from drl_density.training import LangevinChains, propose


@dataclass(frozen=True)
class ShortRunSettings:
    """How to walk down.

    Attributes:
        chains: steps per level, their sizes, and the temperature: the papers' pictures are drawn with the noise times 0.99,
            which is ``LangevinChains(temperature=0.99**2)``; 1 unless asked for.
        is_denoised: end with Tweedie's formula at level 0, by the same calibrated density as everything else (the second
            paper; its release doubles the score there).
        uses_initializer: begin each level at the initialiser's proposal; by default where the model has one.
        max_rows: chains run at once.
    """

    chains: LangevinChains = field(default_factory=LangevinChains)
    is_denoised: bool = False
    uses_initializer: bool | None = None
    max_rows: int = 1024


def sample_short_run(
    model: EnergySequence,
    num_samples: int,
    *,
    settings: ShortRunSettings | None = None,
    initial: Tensor | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` of level 0, or denoised ones.

    Args:
        model: the sequence, guided or composed as you like (:meth:`~drl_density.EnergySequence.with_network`).
        num_samples: draws.
        settings: the walk.
        initial: states at level T in place of N(0, I), such as interpolated ones, ``(num_samples, *event)``.
        generator: source of randomness.
        on_step: told after each level, per block of rows.

    Raises:
        ValueError: a proposal asked of a model without an initialiser, or initial states of another shape.

    Source: Gao et al. 2021, algorithm 2; Zhu et al. 2024, algorithm 2.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> settings = ShortRunSettings(chains=LangevinChains(num_steps=2))
    >>> sample_short_run(model, 4, settings=settings).draws.shape
    torch.Size([4, 2])
    """
    settings = ShortRunSettings() if settings is None else settings
    chains = settings.chains
    shape = (num_samples, *model.event_shape)
    if initial is not None and initial.shape != shape:
        raise ValueError(f"expected initial states of shape {tuple(shape)}, got {tuple(initial.shape)}")
    proposes = model.initializer is not None if settings.uses_initializer is None else settings.uses_initializer
    was_training = model.training
    model.eval()
    ends = []
    for begin in range(0, num_samples, settings.max_rows):
        count = min(settings.max_rows, num_samples - begin)
        if initial is None:
            x = normal_draws((count, *model.event_shape), model, generator)
        else:
            x = initial[begin : begin + count].to(model.device, model.dtype)
        for level in reversed(range(model.num_levels)):
            levels = torch.full((count,), level, device=x.device)
            if proposes:
                with torch.no_grad():
                    start = propose(model, x, levels, chains, generator=generator)
            else:
                start = x / chains.step_alpha(model, levels[:1]).to(x)
            x, acceptance = chains.run(model, start, x, levels, generator=generator)
            if on_step is not None:
                on_step(StepRecord(level, x, float(acceptance.mean())))
        ends.append(model.denoise(x, 0) if settings.is_denoised else x)
    model.train(was_training)
    return SampleResult(torch.cat(ends))
