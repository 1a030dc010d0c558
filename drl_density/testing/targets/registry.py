"""The library of targets with a known log Z, by name and by family."""

from __future__ import annotations

import difflib

from drl_density.testing.targets import (
    curved,
    discrete,
    gaussians,
    hierarchical,
    mixtures,
    regressions,
    supports,
    tails,
)
from drl_density.testing.targets.record import Builder, KnownTarget, named

FAMILIES: dict[str, dict[str, Builder]] = {
    module.__name__.rpartition(".")[2]: module.TARGETS
    for module in (gaussians, mixtures, curved, tails, discrete, regressions, hierarchical, supports)
}
"""Builders of targets by family and name."""


def known_target_names(family: str | None = None) -> tuple[str, ...]:
    """List the names of the targets with a known log Z.

    Args:
        family: one of "gaussians", "mixtures", "curved", "tails", "discrete", "regressions", "hierarchical" and "supports";
            all of them when not given.

    Raises:
        ValueError: a family that does not exist.

    >>> "twin_shells_10d" in known_target_names("curved"), len(known_target_names()) > 60
    (True, True)
    """
    if family is not None and family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    chosen = FAMILIES if family is None else {family: FAMILIES[family]}
    return tuple(name for builders in chosen.values() for name in builders)


def known_target(name: str) -> KnownTarget:
    """Build a target with a known log Z.

    Args:
        name: name of a target, as :func:`known_target_names` lists them.

    Raises:
        ValueError: a name that does not exist; the message lists similar ones.

    >>> target = known_target("gaussian_2d")
    >>> round(target.log_z, 4), target.dim  # log(2 pi)
    (1.8379, 2)
    >>> target.target.log_prob(target.sample(3)).shape
    torch.Size([3])
    """
    for family, builders in FAMILIES.items():
        if name in builders:
            return named(name, family, builders[name]())
    near = difflib.get_close_matches(name, known_target_names(), n=3, cutoff=0.4)
    hint = f"; similar names are {', '.join(near)}" if near else "; known_target_names() lists them"
    raise ValueError(f"no target is named {name!r}{hint}")


def known_targets(family: str | None = None) -> tuple[KnownTarget, ...]:
    """Build the targets of one family, or all of them.

    Args:
        family: kind of target, as in :func:`known_target_names`; all of them when not given.

    >>> sum(target.is_proper for target in known_targets("tails")), len(known_targets("tails"))
    (12, 16)
    """
    return tuple(known_target(name) for name in known_target_names(family))
