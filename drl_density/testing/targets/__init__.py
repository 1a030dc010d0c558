"""Unnormalised targets whose log Z is known by a closed form, by quadrature or by enumeration."""

from drl_density.testing.targets.record import KnownTarget
from drl_density.testing.targets.registry import known_target, known_target_names, known_targets

__all__ = ["KnownTarget", "known_target", "known_target_names", "known_targets"]
