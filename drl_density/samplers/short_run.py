"""The papers' own samplers: K unadjusted Langevin steps per level, from the noisier state or an initialiser's proposal.

The papers report their figures on such draws. The end of a short unadjusted chain is not a draw of the model's density: at
level 0 of the T6 setting it moves by a tenth of the width where the density is flat. So no estimate of this package uses
them; :func:`~drl_density.samplers.sample_progressive` has adjusted chains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.distributions import SampleResult
from drl_density.model import EnergySequence
from drl_density.records.fields import PositiveInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.walk import StepRecord, starting_noise
from drl_density.shapes import check_num_samples
from drl_density.training import LangevinChains, propose


@dataclass(frozen=True)
class ShortRunSettings:
    """Short chains on each level, and the form in which their last states are returned.

    Attributes:
        chains: number and size of the steps per level, and their temperature. The papers draw their pictures with the
            noise times 0.99, which is ``LangevinChains(temperature=0.99**2)``; the default is 1.
        is_denoised: whether to end with Tweedie's formula at level 0, as the second paper does (its release doubles the
            score there).
        uses_initializer: whether each level starts at the initialiser's proposal; None does so if the model has one.
        max_rows: chains run at once, which limits memory.
    """

    chains: LangevinChains = field(default_factory=LangevinChains)
    is_denoised: bool = False
    uses_initializer: bool | None = None
    max_rows: PositiveInt = 1024

    def __post_init__(self) -> None:
        check_fields(self)


@outside_inference_mode
def sample_short_run(
    model: EnergySequence,
    num_samples: int,
    *,
    settings: ShortRunSettings | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` of level 0 by short chains on each level, denoised if the settings say so.

    Adjusted chains have an ``acceptance_rate`` of each draw, the mean over the levels.

    Args:
        noise: states at level T, ``(num_samples, *event)``, for example interpolated ones; draws of N(0, I) by default.
        on_step: called with a :class:`StepRecord` after each level, for each block of ``settings.max_rows`` chains.

    Raises:
        ValueError: a proposal from a model without an initialiser, noise of another shape, or a ``num_samples`` that is
            not a positive integer.

    Source: Gao et al. 2021, algorithm 2; Zhu et al. 2024, algorithm 2.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> settings = ShortRunSettings(chains=LangevinChains(num_steps=2))
    >>> sample_short_run(model, 4, settings=settings).draws.shape
    torch.Size([4, 2])
    """
    check_num_samples(num_samples)
    settings = given_or_default(settings, ShortRunSettings)
    chains = settings.chains
    if noise is not None:
        noise = starting_noise(model, num_samples, generator, noise=noise)
    proposes = model.initializer is not None if settings.uses_initializer is None else settings.uses_initializer
    was_training = model.training
    model.eval()
    try:
        ends, rates = [], []
        for begin in range(0, num_samples, settings.max_rows):
            count = min(settings.max_rows, num_samples - begin)
            if noise is None:
                x = starting_noise(model, count, generator)
            else:
                x = noise[begin : begin + count].to(model.device, model.dtype)
            accepted = torch.zeros(count, dtype=x.dtype, device=x.device)
            for level in reversed(range(model.num_levels)):
                levels = torch.full((count,), level, device=x.device)
                if proposes:
                    with torch.no_grad():
                        start = propose(model, x, levels, chains, generator=generator)
                else:
                    start = x / chains.step_alpha(model, levels[:1]).to(x)
                x, acceptance = chains.run(model, start, x, levels, generator=generator)
                accepted += acceptance / model.num_levels
                if on_step is not None:
                    on_step(StepRecord(level, x, float(acceptance.mean())))
            rates.append(accepted)
            ends.append(model.denoise(x, 0) if settings.is_denoised else x)
    finally:
        model.train(was_training)
    stats = {"acceptance_rate": torch.cat(rates)} if chains.kernel.is_adjusted and chains.num_steps else {}
    return SampleResult(torch.cat(ends), stats)
