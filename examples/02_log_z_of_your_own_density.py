"""log Z of an unnormalised density of your own, without a fit: the double well exp(-x^4 + 6 x^2 + x/2 - y^2/2).

Expected: log Z near 10.293, with its standard error.
"""

import pyro.distributions as dist
import torch

import drl_density as drl


def double_well(x: torch.Tensor) -> torch.Tensor:
    """Unnormalised log density of rows ``(n, 2)``."""
    return -(x[:, 0] ** 4) + 6 * x[:, 0] ** 2 + 0.5 * x[:, 0] - 0.5 * x[:, 1] ** 2


def main(num_bridges: int = 60) -> drl.LogPartitionEstimate:
    """Anneal from a wide Gaussian and print the estimate."""
    base = dist.Normal(torch.zeros(2, dtype=torch.float64), 2.0).to_event(1)
    path = drl.geometric_path(base, double_well, num_bridges=num_bridges)
    estimate = drl.annealed_importance_sampling(path, generator=torch.Generator().manual_seed(0))
    print(estimate)
    return estimate


if __name__ == "__main__":
    main()
