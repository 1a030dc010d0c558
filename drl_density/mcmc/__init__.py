"""Markov kernels on any callable log density, their adaptation, and the loop that runs them."""

from drl_density.mcmc.adaptation import DualAveraging, DualAveragingState
from drl_density.mcmc.hmc import HMC, integrate
from drl_density.mcmc.kernel import ChainState, Kernel, LogDensity, StepInfo, init_state, value_and_gradient
from drl_density.mcmc.langevin import MALA, ULA
from drl_density.mcmc.run import ChainResult, ChainStep, Recording, run_chain

__all__ = [
    "HMC",
    "MALA",
    "ULA",
    "ChainResult",
    "ChainState",
    "ChainStep",
    "DualAveraging",
    "DualAveragingState",
    "Kernel",
    "LogDensity",
    "Recording",
    "StepInfo",
    "init_state",
    "integrate",
    "run_chain",
    "value_and_gradient",
]
