"""One small member of every kind of base, in one and two dimensions, for the battery over the contract."""

import torch

from drl_density.bases import FactorAnalysers, NoisedGaussianMixture, QuadraticBase

WEIGHTS = torch.tensor([0.7, 0.3])
MEANS = {1: torch.tensor([[-0.8], [1.1]]), 2: torch.tensor([[-0.8, 0.5], [1.1, -0.3]])}
FACTORS = {
    1: torch.tensor([[[0.5]], [[0.9]]]),
    2: torch.tensor([[[0.6, 0.0], [0.4, 0.5]], [[0.4, 0.0], [-0.3, 0.7]]]),
}
VARIANCES = {1: torch.tensor([[0.3], [0.8]]), 2: torch.tensor([[0.3, 0.9], [0.8, 0.2]])}


def members(num_features):
    """Bases over vectors of ``num_features`` by name."""
    means, factors, variances = MEANS[num_features], FACTORS[num_features], VARIANCES[num_features]
    return {
        "full mixture": NoisedGaussianMixture(WEIGHTS, means, factors @ factors.mT),
        "diagonal mixture": NoisedGaussianMixture(WEIGHTS, means, variances),
        "factor analysers": FactorAnalysers(WEIGHTS, means, factors[..., :1], variances),
        "quadratic": QuadraticBase(num_features, 1.7),
    }


NAMES = tuple(members(1))
