"""Markov kernels on any callable log density, the loops that run them, and the adaptation of their step sizes."""

from drl_density.mcmc.hmc import HMC, Trajectory, integrate
from drl_density.mcmc.kernel import ChainState, Kernel, LogDensity, StepInfo, init_state, value_and_gradient
from drl_density.mcmc.langevin import MALA, ULA
from drl_density.mcmc.run import ChainResult, ChainStep, Recording, StepsTaken, run_chain, take_steps
from drl_density.mcmc.step_size import (
    DualAveraging,
    DualAveragingState,
    RobbinsMonro,
    RobbinsMonroState,
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
    "DualAveragingState",
    "Kernel",
    "LogDensity",
    "Recording",
    "RobbinsMonro",
    "RobbinsMonroState",
    "StepInfo",
    "StepSizeRule",
    "StepsTaken",
    "Trajectory",
    "Tuner",
    "init_state",
    "integrate",
    "run_chain",
    "take_steps",
    "value_and_gradient",
]
