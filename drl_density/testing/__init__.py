"""Closed-form systems, targets with a known log Z, and statistical checks for tests, of this package and of extensions."""

from drl_density.testing.statistics import assert_z, seeded_generator
from drl_density.testing.systems import GaussianMixtureSequence, gaussian_sequence
from drl_density.testing.targets import KnownTarget, known_target, known_target_names, known_targets

__all__ = [
    "GaussianMixtureSequence",
    "KnownTarget",
    "assert_z",
    "gaussian_sequence",
    "known_target",
    "known_target_names",
    "known_targets",
    "seeded_generator",
]
