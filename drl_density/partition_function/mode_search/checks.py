"""What a search for modes leaves to doubt about log Z, in words."""

from __future__ import annotations

from drl_density.partition_function.mode_search.planting import LEAST_POWER
from drl_density.partition_function.mode_search.record import ModeSearch
from drl_density.partition_function.mode_search.unseen import LARGEST_KNOWN_UNSEEN, LARGEST_UNSEEN

LEAST_MISSED, LEAST_VISITS = 0.02, 0.1
"""Mass of a mode from which draws have to visit it, and the share of its mass that they have to hold."""


def many_modes_are_unseen(search: ModeSearch | None) -> str | None:
    """Why no estimator sees log Z: more than a tenth of the modes that matter were never found."""
    if search is None or not search.has_gradient or search.unseen <= LARGEST_KNOWN_UNSEEN:
        return None
    return (
        f"{search.unseen:.0%} of the climbs would end in modes that nobody has seen: {_found(search)}; log Z may lie far "
        "above the estimate. Give starts= or data= that lie in the modes, or a base of the target's own width"
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


def some_modes_are_unseen(search: ModeSearch | None) -> str | None:
    """Why log Z is doubtful: more than 2 % of the modes that matter may be unseen."""
    if search is None or not search.has_gradient or search.unseen <= LARGEST_UNSEEN:
        return None
    return f"{search.unseen:.1%} of the climbs would end in modes that nobody has seen: {_found(search)}"


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
    """The sentence that a reliable verdict carries: which modes the search would have found; empty without a search."""
    if search is None or not search.power:
        return ""
    first = search.power[0]
    count = "one mode" if len(search.modes) == 1 else f"{len(search.modes)} modes"
    kind = "others like it" if first.is_copy else f"modes at least {first.width:.2g} wide"
    return (
        f"; {count} found; {kind}, of at least {first.mass:.0%} of the mass and within radius {first.radius:.3g}, would "
        f"have been found with {LEAST_POWER:.0%} ({first.num_found} of {first.num_planted} planted)"
    )


def _found(search: ModeSearch) -> str:
    once = sum(mode.hits == 1 for mode in search.modes)
    return f"{search.num_searches} climbs found {len(search.modes)} modes, {once} of them once"
