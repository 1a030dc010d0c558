"""What a search for modes leaves to doubt about log Z, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from drl_density.partition_function.mode_search.planting import LEAST_POWER
from drl_density.partition_function.mode_search.record import LARGEST_UNSEEN, ModeSearch, Power

MOST_NAMED = 5
"""Largest number of modes that a text names one by one."""
LEAST_MISSED, LEAST_VISITS = 0.02, 0.1
"""Mass of a mode from which draws have to visit it, and the share of its mass that they have to hold."""
LEAST_CLAIMED, NEAR = 0.1, 2.0
"""Mass by Laplace's approximation from which draws have to come near the highest point of a mode, and what is near: a
multiple of the root of the dimension, in standard deviations, within which a Gaussian has nearly all of its mass."""


def many_modes_are_unseen(search: ModeSearch | None) -> str | None:
    """Why no estimator sees log Z: more than a tenth of the modes, or of the mass, may lie where no search has looked."""
    if search is None or not search.is_hopeless:
        return None
    return (
        f"about {search.unseen:.0%} of the modes or of the mass may be unseen: {_found(search)}; log Z may lie far above "
        "the estimate. Give starts= or data= that lie in the modes, or a base of the target's own width"
    )


def a_mode_is_never_visited(search: ModeSearch | None) -> str | None:
    """Why log Z is unreliable: a mode that the search has found holds too few of the final draws."""
    if search is None or not search.visits:
        return None
    missed = [
        (mode, share)
        for mode, share in zip(search.modes, search.visits, strict=True)
        if mode.least_mass >= LEAST_MISSED and share < LEAST_VISITS * mode.least_mass
    ]
    if not missed:
        return None
    mode, share = missed[0]
    return f"a mode with about {mode.least_mass:.0%} of the mass holds {share:.1%} of the final draws"


def a_mode_is_out_of_reach(search: ModeSearch | None, draws: Tensor, log_z: float) -> str | None:
    """Why log Z is unreliable: the draws keep away from a point that holds much mass by Laplace's approximation.

    A narrow mode inside a wide one is nearest to the draws of both, so that a count of visits does not show it.

    Args:
        draws: draws of the target ``(n, d)``.
        log_z: estimate of log Z, nats, with which the mass of a mode is compared.
    """
    for mode in () if search is None else search.modes:
        claimed = math.exp(min(0.0, mode.shape.log_mass - log_z))
        is_near = mode.shape.distances(draws.double()) <= NEAR**2 * draws.shape[1]
        share = float(is_near.double().mean())
        if claimed >= LEAST_CLAIMED and share < LEAST_VISITS * claimed:
            return (
                f"the highest point of a mode has about {claimed:.0%} of the mass around it by Laplace's approximation, and "
                f"{share:.1%} of the draws come near"
            )
    return None


def some_modes_are_unseen(search: ModeSearch | None) -> str | None:
    """Why log Z is doubtful: more than 2 % of the modes that matter may be unseen."""
    if search is None or not search.has_gradient or search.unseen <= LARGEST_UNSEEN:
        return None
    return f"about {search.unseen:.1%} of the modes or of the mass may be unseen: {_found(search)}"


def power_is_small(search: ModeSearch | None) -> str | None:
    """Why log Z is doubtful: modes like those that were found would not have been seen, or nobody has looked."""
    if search is None:
        return None
    if not search.has_gradient:
        return "modes were searched by pilot runs alone, as the target has no gradient, and their power is not known"
    if not search.power:
        return "no climb ended in a mode, so the power of the search is not known"
    first = search.power[0]
    if first.share >= LEAST_POWER:
        return None
    return (
        f"of {first.num_planted} planted modes with {first.mass:.0%} of the mass, {first.width:.2g} wide and within "
        f"{first.radius:.3g}, the search found {first.num_found}: a narrow mode far away could be missing"
    )


def reach(search: ModeSearch | None) -> str:
    """The sentence that a reliable verdict carries: which modes the search would have found; empty without a search.

    It names the narrowest modes of the demanded mass that were found with 95 %, and the widest that were not.
    """
    if search is None or not search.power:
        return ""
    first, found = search.power[0], _found_cases(search.power)
    count = "one mode" if len(search.modes) == 1 else f"{len(search.modes)} modes"
    if not found:
        kind = f"modes {first.width:.2g} wide" if not first.is_copy else "modes like it"
        return (
            f"; {count} found; of {first.num_planted} planted {kind}, with {first.mass:.0%} of the mass and within radius "
            f"{first.radius:.3g}, the search found {first.num_found} only"
        )
    finest = min(found, key=lambda power: power.width)
    kind = f"modes at least {finest.width:.2g} wide"
    if first.is_copy:
        kind = "others like it" if len(search.modes) == 1 else "others like the heaviest"
        kind += "" if finest is first else f", down to {finest.width / first.width:.3g} as wide"
    sentence = (
        f"; {count} found; {kind}, of at least {finest.mass:.0%} of the mass and within radius {finest.radius:.3g}, would "
        f"have been found with {LEAST_POWER:.0%} ({finest.num_found} of {finest.num_planted} planted)"
    )
    missed = [power for power in search.power if power.mass == first.mass and power not in found]
    if not missed:
        return sentence
    width = f"{missed[0].width / first.width:.3g} as wide" if first.is_copy else f"{missed[0].width:.2g} wide"
    return f"{sentence}, and of those {width} {missed[0].num_found} of {missed[0].num_planted}"


def _found_cases(powers: Sequence[Power]) -> list[Power]:
    """Cases of the demanded mass whose modes were found."""
    return [power for power in powers if power.mass == powers[0].mass and power.share >= LEAST_POWER]


def describe(search: ModeSearch | None) -> str:
    """What was searched and found, whatever the verdict; empty without a search.

    The largest modes are named with their mass, the number of random starts that led to each, and that of other searches.
    """
    if search is None:
        return ""
    pilots = "no pilot runs" if not search.num_pilots else f"{search.num_pilots} pilot runs"
    if not search.has_gradient:
        return f"search for modes: {pilots} and no climbs, as the target has no gradient"
    named = [
        f"{mode.mass:.1%} of the mass ({mode.hits} starts, {mode.pilots} pilots)" for mode in search.modes[:MOST_NAMED]
    ]
    if len(search.modes) > MOST_NAMED:
        named.append(f"{len(search.modes) - MOST_NAMED} more")
    count = "1 mode" if len(search.modes) == 1 else f"{len(search.modes)} modes"
    return (
        f"search for modes: {search.num_searches} random starts out to radius {search.radius:.3g} and {pilots} found {count}"
        f"{': ' if named else ''}{', '.join(named)}; unseen share {search.unseen:.2g}{reach(search)}"
    )


def _found(search: ModeSearch) -> str:
    once = sum(mode.hits == 1 for mode in search.modes)
    return f"{search.num_searches} random starts led to {len(search.modes)} modes, {once} of them once"
