"""Closed-form systems and statistical checks for tests, of this package and of extensions to it."""

from drl_density.testing.statistics import assert_z, seeded_generator
from drl_density.testing.systems import GaussianMixtureSequence, gaussian_sequence

__all__ = ["GaussianMixtureSequence", "assert_z", "gaussian_sequence", "seeded_generator"]
