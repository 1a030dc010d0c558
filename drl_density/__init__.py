"""Density estimation with sequences of energy-based models learned by diffusion recovery likelihood."""

from drl_density.datasets import Dataset, Split, load_dataset, memorization_check
from drl_density.density import Density, FitSettings, LikelihoodReport, compare, fit
from drl_density.diagnostics import as_arviz, from_pyro_mcmc
from drl_density.distributions import ChainSampler, EnergyDistribution, RecoveryDistribution
from drl_density.distributions.combinators import Mixture, excluding, guided, product, tempered
from drl_density.distributions.pyro_models import joint_density
from drl_density.estimator import DRLDensity
from drl_density.mcmc import HMC, MALA, ULA, run_chain
from drl_density.model import EnergySequence
from drl_density.partition_function import (
    AISSettings,
    Sandwich,
    SandwichSettings,
    annealed_importance_sampling,
    geometric_path,
    sandwich,
    sequence_path,
)
from drl_density.samplers import sample_progressive
from drl_density.schedule import NoiseSchedule
from drl_density.training import RecoveryLikelihood, TrainingSettings
from drl_density.weights import LogPartitionEstimate

__version__ = "0.1.0"

__all__ = [
    "HMC",
    "MALA",
    "ULA",
    "AISSettings",
    "ChainSampler",
    "DRLDensity",
    "Dataset",
    "Density",
    "EnergyDistribution",
    "EnergySequence",
    "FitSettings",
    "LikelihoodReport",
    "LogPartitionEstimate",
    "Mixture",
    "NoiseSchedule",
    "RecoveryDistribution",
    "RecoveryLikelihood",
    "Sandwich",
    "SandwichSettings",
    "Split",
    "TrainingSettings",
    "annealed_importance_sampling",
    "as_arviz",
    "compare",
    "excluding",
    "fit",
    "from_pyro_mcmc",
    "geometric_path",
    "guided",
    "joint_density",
    "load_dataset",
    "memorization_check",
    "product",
    "run_chain",
    "sample_progressive",
    "sandwich",
    "sequence_path",
    "tempered",
]
