"""Normalised reference densities of an energy sequence, with or without noised forms in closed form."""

from drl_density.bases.atoms import AtomCells, AtomConditional, AtomMixture
from drl_density.bases.autoregressive import AutoregressivePixels, PixelSettings, PixelSteps
from drl_density.bases.blend import BlendedBase
from drl_density.bases.contract import Base, Conditional, Draw, Tail
from drl_density.bases.factor_analysers import FactorAnalysers
from drl_density.bases.factor_conditional import FactorConditional
from drl_density.bases.fitting import StackedMixture, StackSettings, fit_stacked_mixture
from drl_density.bases.flows import AutoregressiveFlow, AutoregressiveFlowSettings
from drl_density.bases.gaussian_mixture import NoisedGaussianMixture
from drl_density.bases.layered import LayeredBase
from drl_density.bases.mixture_conditional import MixtureConditional
from drl_density.bases.quadratic import QuadraticBase
from drl_density.bases.state import base_from_state
from drl_density.bases.tilted import AveragedTilts, Tilted

__all__ = [
    "AtomCells",
    "AtomConditional",
    "AtomMixture",
    "AutoregressiveFlow",
    "AutoregressiveFlowSettings",
    "AutoregressivePixels",
    "AveragedTilts",
    "Base",
    "BlendedBase",
    "Conditional",
    "Draw",
    "FactorAnalysers",
    "FactorConditional",
    "LayeredBase",
    "MixtureConditional",
    "NoisedGaussianMixture",
    "PixelSettings",
    "PixelSteps",
    "QuadraticBase",
    "StackSettings",
    "StackedMixture",
    "Tail",
    "Tilted",
    "base_from_state",
    "fit_stacked_mixture",
]
