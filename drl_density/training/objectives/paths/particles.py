"""Particles of level 0, whose mean tilt against that of rows is the gradient of the likelihood of level 0."""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from drl_density.devices import uniform_draws
from drl_density.mcmc import MALA
from drl_density.model import EnergySequence
from drl_density.records.fields import Interval, NonNegativeFloat, PositiveInt, Share, check_fields
from drl_density.training.objectives.pairs import short_chains

PARTICLES, STEP = "path_particles", "path_particle_step"
"""Names in ``TrainingState.drawn`` of the particles and of the step size of their chains, which are saved with the state."""

ADAPTATION = 0.1
"""Factor by which an excess of the acceptance rate moves the logarithm of the squared step size, at every training step."""


@dataclass(frozen=True)
class LevelParticles:
    r"""Contrast of rows with particles of level 0, which adjusted Langevin chains keep near its density p_0.

    .. math:: \nabla \Big( \tfrac1m \textstyle\sum_i g(y_i) - \tfrac1n \sum_i g(x_i) \Big)
        \;\to\; -\nabla\, E_q \log p_0, \qquad y_i \sim p_0

    Here g is the network at level 0, x_i are rows under the noise of that level, and y_i particles, whose positions count as
    fixed. Scores and path increments see the network only where rows are. Where none are, a network can put mass that no
    row ever visits: chains of p_0 find it, and the contrast lowers the tilt there.

    Every training step moves some of the particles. A few of these start again first, at rows or at draws of the base, so
    that no particle is lost for good, and mass between the rows is found too.

    Attributes:
        weight: factor of the contrast in the loss, which is in nats; 0 for no particles.
        num_particles: particles that are kept.
        num_moved: particles that each training step moves and contrasts, at most ``num_particles``.
        num_steps: steps of the chains in each training step.
        renewed_share: share of the moved particles that start again.
        base_share: share of these that begin at draws of the base; the others begin at rows under the noise of level 0.

    Raises:
        ValueError: a negative weight, counts below 1, a share outside its range, or more moved particles than there are.
            At evaluation, a sequence without a base.

    Source: Tieleman 2008, "Training restricted Boltzmann machines using approximations to the likelihood gradient", for
    persistent chains; Nijkamp et al. 2020 (arXiv 1903.12370) for energies of images.

    >>> LevelParticles().num_moved
    32
    """

    weight: NonNegativeFloat = 4.0
    num_particles: PositiveInt = 256
    num_moved: PositiveInt = 32
    num_steps: PositiveInt = 4
    renewed_share: Annotated[float, Interval(0, 1, is_high_open=True)] = 0.02
    base_share: Share = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        if self.num_moved > self.num_particles:
            raise ValueError(f"cannot move {self.num_moved} of {self.num_particles} particles: lower num_moved")

    def __call__(
        self,
        model: EnergySequence,
        x: Tensor,
        drawn: MutableMapping[str, Tensor],
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Move some particles and contrast them with rows: mean tilt of the particles less that of the rows, nats, ``()``.

        Args:
            model: sequence with a base; the result is differentiable in the weights of its network.
            x: clean rows ``(batch, *event)``.
            drawn: particles and the step size of their chains by name, changed in place; where there are none yet, all of
                them begin.
        """
        rows = model.schedule.diffuse(x, 0, generator=generator)
        if PARTICLES not in drawn:
            drawn[PARTICLES] = self.begin(model, x, self.num_particles, generator=generator)
            drawn[STEP] = model.schedule.sigma_at(0).double().cpu()
        moved = self.move(model, x, drawn, generator=generator)
        tilts = model.tilt(torch.cat([moved, rows]), 0)
        return tilts[: len(moved)].mean() - tilts[len(moved) :].mean()

    def begin(
        self, model: EnergySequence, x: Tensor, num_particles: int, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """New particles ``(num_particles, *event)``: draws of the base or of rows, each under the noise of level 0.

        Args:
            model: sequence with a base.
            x: clean rows ``(batch, *event)``.
            num_particles: how many begin, which may be fewer than are kept.

        Raises:
            ValueError: a sequence without a base.
        """
        if model.base is None:
            raise ValueError("particles begin at draws of a base, and this sequence has none")
        chosen = torch.randint(len(x), (num_particles,), generator=generator).to(x.device)
        start = model.schedule.diffuse(x[chosen], 0, generator=generator)
        is_drawn = uniform_draws((num_particles,), x, generator) < self.base_share
        count = int(is_drawn.sum())
        if count:
            log_snr = model.schedule.log_snr_at(torch.zeros(count)).to(x.device)
            draws = model.base.sample_at(log_snr, count, generator=generator)
            start[is_drawn] = draws.to(x).reshape(count, *x.shape[1:])
        return start

    def move(
        self,
        model: EnergySequence,
        x: Tensor,
        drawn: MutableMapping[str, Tensor],
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Move some particles by a few adjusted steps, ``(moved, *event)``, and adapt the step size.

        Args:
            model: sequence whose level 0 the chains leave invariant.
            x: clean rows ``(batch, *event)``, at which some of the renewed particles begin.
            drawn: particles and step size, changed in place.
        """
        held, step = drawn[PARTICLES].to(x), drawn[STEP]
        chosen = torch.randperm(len(held), generator=generator)[: self.num_moved].to(x.device)
        is_new = uniform_draws((len(chosen),), x, generator) < self.renewed_share
        start = held[chosen]
        if is_new.any():
            start[is_new] = self.begin(model, x, int(is_new.sum()), generator=generator)
        kernel = MALA()
        ends = short_chains(
            model,
            kernel,
            start,
            lambda y: model.log_density(y, 0),
            step.to(x).expand(len(start)),
            self.num_steps,
            generator=generator,
        )
        excess = float(ends.acceptance_rate.mean()) - kernel.target_acceptance
        drawn[STEP] = step * math.exp(0.5 * ADAPTATION * excess)
        held = held.clone()
        held[chosen] = ends.position
        drawn[PARTICLES] = held
        return ends.position
