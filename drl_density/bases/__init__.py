"""Normalised densities for an energy sequence to lean on, each with its noised form or the statement that it has none."""

from drl_density.bases.gaussian_mixture import NoisedGaussianMixture
from drl_density.bases.mixture_conditional import MixtureConditional
from drl_density.bases.quadratic_base import QuadraticBase
from drl_density.bases.tilted import Tilted

__all__ = ["MixtureConditional", "NoisedGaussianMixture", "QuadraticBase", "Tilted"]
