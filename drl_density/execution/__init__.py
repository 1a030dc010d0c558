"""Execution of passes on a device: precision, held spectral weights and recorded CUDA graphs."""

from drl_density.execution.graphs import PassGraphs
from drl_density.execution.passes import ExecutedModule, Execution, chain_passes, precision

__all__ = ["ExecutedModule", "Execution", "PassGraphs", "chain_passes", "precision"]
