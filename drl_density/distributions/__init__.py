"""Energy-based models as Pyro distributions, and distributions made of other distributions."""

from drl_density.distributions.combinators import Mixture, excluding, guided, product, tempered
from drl_density.distributions.energy_distribution import (
    ChainSampler,
    EnergyDistribution,
    RecoveryDistribution,
    SampleResult,
    SamplerPolicy,
)
from drl_density.distributions.pyro_models import joint_density

__all__ = [
    "ChainSampler",
    "EnergyDistribution",
    "Mixture",
    "RecoveryDistribution",
    "SampleResult",
    "SamplerPolicy",
    "excluding",
    "guided",
    "joint_density",
    "product",
    "tempered",
]
