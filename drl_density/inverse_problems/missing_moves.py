r"""Markov transitions of missing coordinates that leave their conditional under a model invariant.

One round chooses among the present values and fresh proposals from a closed-form conditional by their weights
:math:`\exp F_0(x) / q(x)` (iterated sampling importance resampling, which jumps between separated modes), then makes
adjusted kernel steps. Each part leaves :math:`p_0(x_m \mid x_o)` invariant, apart from the adaptation of step size and
scale to the given rows. That effect averages out over many rows; for a few rows the invariance is approximate.

Source: Andrieu, Lee and Vihola 2018 (i-SIR); Samsonov et al. 2022 (with local kernels).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.bases import Conditional
from drl_density.inverse_problems.conditional import SliceEnergy
from drl_density.mcmc import MALA, Kernel, RobbinsMonro, Tuner, take_steps
from drl_density.mcmc.kernel import require_adjusted
from drl_density.model import EnergySequence
from drl_density.records.fields import NonNegativeInt, PositiveInt, check_fields
from drl_density.records.given import given_or_default


@dataclass(frozen=True)
class MissingMoveSettings:
    """Numbers of proposals and steps in one transition of missing coordinates.

    Attributes:
        num_rounds: number of rounds, each with a choice among proposals and some kernel steps.
        num_proposals: fresh proposals per row and round.
        num_steps: kernel steps per round, after the choice.
        kernel: an adjusted kernel, such as ``MALA()`` or ``HMC()``.

    Raises:
        ValueError: an unadjusted kernel, or a number outside its range.
    """

    num_rounds: NonNegativeInt = 2
    num_proposals: PositiveInt = 8
    num_steps: NonNegativeInt = 4
    kernel: Kernel = field(default_factory=MALA)

    def __post_init__(self) -> None:
        check_fields(self)
        require_adjusted(self.kernel, "a transition of missing values")


@outside_inference_mode
def move_missing(
    model: EnergySequence,
    proposal: Conditional,
    x: Tensor,
    is_missing: Tensor,
    *,
    settings: MissingMoveSettings | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Moves the missing coordinates of rows ``(n, d)`` in model space by one transition; the others stay as they are.

    Args:
        proposal: closed-form conditional distribution from which proposals are drawn.
        x: complete rows ``(n, d)``, with the present values in missing places.
        is_missing: mask of the missing coordinates, ``(n, d)``.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> from drl_density.bases import NoisedGaussianMixture
    >>> x = torch.zeros(5, 2).double()
    >>> is_missing = torch.tensor([True, False]).expand(5, 2)
    >>> moved = move_missing(model, NoisedGaussianMixture.standard(2).conditional(), x, is_missing)
    >>> bool((moved[:, 1] == 0).all()), bool((moved[:, 0] != 0).any())
    (True, True)
    """
    settings = given_or_default(settings, MissingMoveSettings)
    x = x.to(model.dtype)
    target = SliceEnergy(model, 0.0, x, is_missing)
    scale = model.score(x, 0.0).square().mean(0).rsqrt()  # inverse root of the Fisher information
    kernel = settings.kernel.with_scale(scale)
    # One tuner for all rounds. Its gain stays constant, so that a handful of steps suffices to come near the target.
    tuner = Tuner(RobbinsMonro(kernel.target_acceptance, gain=0.5), 0.5)
    for _ in range(settings.num_rounds):
        x = _choose(model, proposal, x, is_missing, settings.num_proposals, generator)
        state, _, _ = take_steps(
            kernel, kernel.init(x, target), target, num_steps=settings.num_steps, step_size=tuner, generator=generator
        )
        x = torch.where(is_missing, state.position, x)
    return x


def _choose(
    model: EnergySequence,
    proposal: Conditional,
    x: Tensor,
    is_missing: Tensor,
    count: int,
    generator: torch.Generator | None,
) -> Tensor:
    """For each row, one of its present values and ``count`` proposals, chosen by importance weight."""
    fresh = proposal.sample(x, is_missing, count, generator=generator).to(x)
    candidates = torch.cat([x[:, None], fresh], 1)
    flat = candidates.flatten(0, 1)
    nothing = torch.zeros_like(flat, dtype=torch.bool)
    with torch.no_grad():
        weights = model.log_density(flat, 0).double() - proposal.observed_log_density(flat, nothing)
    chosen = torch.multinomial(weights.reshape(len(x), -1).softmax(1), 1, generator=generator)
    return candidates.gather(1, chosen[..., None].expand(-1, 1, x.shape[1])).squeeze(1)
