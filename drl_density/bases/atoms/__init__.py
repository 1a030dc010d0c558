"""A mixture of products whose columns have probabilities of single values beside a normal density."""

from drl_density.bases.atoms.cells import AtomCells
from drl_density.bases.atoms.conditional import AtomConditional
from drl_density.bases.atoms.mixture import AtomMixture

__all__ = ["AtomCells", "AtomConditional", "AtomMixture"]
