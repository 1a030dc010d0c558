"""Fits mixtures of spike-and-slab products."""

from drl_density.bases.fitting.atoms.expectation import AtomBatch, AtomRows, fit_atom_batch
from drl_density.bases.fitting.atoms.stack import AtomKind, AtomSizes, AtomStack, fit_atom_stack, refit_atoms

__all__ = [
    "AtomBatch",
    "AtomKind",
    "AtomRows",
    "AtomSizes",
    "AtomStack",
    "fit_atom_batch",
    "fit_atom_stack",
    "refit_atoms",
]
