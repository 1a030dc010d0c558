"""Mass of a target without levels that no particle has entered: modes that are searched for, and tails.

Tails are examined by draws that are moved outwards. If these find nothing, modes are climbed to from random starts that
spread up to 64 times as wide as the base, and each mode that is found has to hold draws.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.mcmc import Kernel, LogDensity
from drl_density.partition_function.annealing.path import Base, base_draws, evaluated
from drl_density.partition_function.mode_search.checks import (
    a_mode_is_never_visited,
    a_mode_is_out_of_reach,
    many_modes_are_unseen,
    power_is_small,
    some_modes_are_unseen,
)
from drl_density.partition_function.mode_search.search import search_modes
from drl_density.partition_function.tails.examine import examine_tails
from drl_density.partition_function.tails.report import Integrability
from drl_density.partition_function.target_bases.contract import FlatBase, GivenBase

NUM_PILOT_PARTICLES = 64
"""Particles of each pilot of the search."""
MOST_MISSING, MOST_DOUBTFUL_MISSING = 0.1, 0.01
"""Shares of the mass which the draws do not reach above which log Z is unreliable, and doubtful."""


def unvisited(
    log_density: LogDensity,
    base: FlatBase,
    draws: Tensor,
    log_z: float,
    *,
    kernel: Kernel,
    num_swept: int,
    generator: torch.Generator | None = None,
) -> tuple[list[str], list[str]]:
    """What speaks against draws of a target as draws of all of it.

    Args:
        log_density: unnormalised log density of flat rows ``(n, d)``.
        base: base over flat rows, from which the search starts.
        draws: draws ``(replicate, n, d)``, of at least two replicates.
        log_z: estimate of log Z, nats.
        kernel: kernel of the search's pilots; modes are climbed to only if it uses gradients.
        num_swept: points of the search's sweep around known modes.

    Returns:
        faults, after which log Z is unreliable, and doubts.

    >>> import pyro.distributions as dist
    >>> base = flat_base(dist.Normal(torch.zeros(2).double(), 2.0).to_event(1), torch.Size([2]))
    >>> draws = torch.randn(4, 64, 2, generator=torch.Generator().manual_seed(0)).double()
    >>> from drl_density.mcmc import MALA
    >>> options = {"kernel": MALA(), "num_swept": 0, "generator": torch.Generator().manual_seed(0)}
    >>> unvisited(lambda x: -0.5 * x.square().sum(-1), base, draws, 1.84, **options)
    ([], [])
    """
    top = float(evaluated(log_density, draws.flatten(0, 1)).max())

    def centred(x: Tensor) -> Tensor:
        # Climbs and moved draws may leave the numbers. Such rows, and densities that are no numbers, count as zero.
        inside = x.isfinite().all(1)
        values = log_density(torch.where(inside[:, None], x, draws[0, 0])) - top
        return torch.where(inside & ~values.isnan(), values, -torch.inf)

    try:
        tails = examine_tails(centred, draws, generator=generator)
        if tails.integrability is not Integrability.INTEGRABLE:
            return [str(tails)], []
        if tails.missing > MOST_DOUBTFUL_MISSING:
            reason = f"draws moved outwards find {tails.missing:.2g} of the mass that the draws do not reach"
            return ([reason], []) if tails.missing > MOST_MISSING else ([], [reason])
        search = search_modes(
            centred,
            base,
            num_particles=NUM_PILOT_PARTICLES,
            kernel=kernel,
            has_gradient=kernel.gradients_per_step > 0,
            num_swept=num_swept,
            generator=generator,
        ).record.visited_by(draws.flatten(0, 1))
    except NumericalError as error:
        return [], [f"the search for modes and tails ended early: {error}"]
    faults = (
        many_modes_are_unseen(search),
        a_mode_is_never_visited(search),
        a_mode_is_out_of_reach(search, draws.flatten(0, 1), log_z - top),
    )
    doubts = (some_modes_are_unseen(search), power_is_small(search))
    return [fault for fault in faults if fault], [doubt for doubt in doubts if doubt]


def flat_base(base: Base, event_shape: torch.Size) -> FlatBase:
    """A base of an annealing path over flat rows ``(n, d)``.

    Args:
        base: normalised distribution with exact draws.
        event_shape: shape of one of its points.
    """
    draw = base_draws(base)

    def log_prob(x: Tensor) -> Tensor:
        return base.log_prob(x.reshape(len(x), *event_shape))

    def flat_draw(num_rows: int, generator: torch.Generator | None) -> Tensor:
        return draw(num_rows, generator).reshape(num_rows, -1)

    return GivenBase(log_prob, flat_draw, torch.Size([event_shape.numel()]))
