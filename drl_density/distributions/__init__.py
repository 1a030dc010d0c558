"""Energy-based models as Pyro distributions, and distributions made of other distributions."""

from drl_density.distributions.combinators import excluding, guided, product, tempered
from drl_density.distributions.energy import EnergyDistribution
from drl_density.distributions.fitted_support import FittedSupport
from drl_density.distributions.mixture import Mixture
from drl_density.distributions.pyro_models import joint_density
from drl_density.distributions.recovery import RecoveryDistribution
from drl_density.distributions.sampling import ChainSampler, SampleResult, SamplerPolicy

__all__ = [
    "ChainSampler",
    "EnergyDistribution",
    "FittedSupport",
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
