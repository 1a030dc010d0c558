"""How passes run on a device: precision, held spectral weights and recorded CUDA graphs; never what they compute."""

from drl_density.execution.graphs import PassGraphs

__all__ = ["PassGraphs"]
