"""Markov kernels on any callable log density, the loops that run them, and the adaptation of their step sizes."""

from drl_density.mcmc.hmc import HMC
from drl_density.mcmc.independence import Independence
from drl_density.mcmc.kernel import ChainState, Kernel, LogDensity, StepInfo, init_state, value_and_gradient
from drl_density.mcmc.langevin import MALA, ULA
from drl_density.mcmc.random_walk import RandomWalk
from drl_density.mcmc.run import ChainResult, ChainStep, Recording, StepsTaken, run_chain, take_steps
from drl_density.mcmc.step_size import (
    DualAveraging,
    RobbinsMonro,
    StepSizeRule,
    Tuner,
)

__all__ = [
    "HMC",
    "MALA",
    "ULA",
    "ChainResult",
    "ChainState",
    "ChainStep",
    "DualAveraging",
    "Independence",
    "Kernel",
    "LogDensity",
    "RandomWalk",
    "Recording",
    "RobbinsMonro",
    "StepInfo",
    "StepSizeRule",
    "StepsTaken",
    "Tuner",
    "init_state",
    "run_chain",
    "take_steps",
    "value_and_gradient",
]
