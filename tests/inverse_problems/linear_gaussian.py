"""The exact posterior of a Gaussian prior under a linear measurement."""

import torch


def exact_posterior(system, matrix, y, noise):
    """(mean, covariance, log evidence with the offset) at level 0."""
    law = system.marginal(0).component_distribution
    mean, prior = law.mean[0], law.covariance_matrix[0]
    innovation = matrix @ prior @ matrix.T + noise**2 * torch.eye(len(y), dtype=torch.float64)
    gain = prior @ matrix.T @ torch.linalg.inv(innovation)
    evidence = torch.distributions.MultivariateNormal(matrix @ mean, innovation).log_prob(y)
    return mean + gain @ (y - matrix @ mean), prior - gain @ matrix @ prior, float(evidence + system.log_z(0))
