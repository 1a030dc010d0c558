"""The evidence of your own Pyro models: does a straight line need a slope?

    log p(y) = log of the integral of p(z, y) over the latent sites z, by the sandwich on the unconstrained vector

Expected: both evidences with intervals, and a Bayes factor of several nats for the model with the slope.
"""

from functools import partial

import pyro
import pyro.distributions as dist
import torch

import drl_density as drl


def line(x: torch.Tensor, y: torch.Tensor, *, has_slope: bool) -> None:
    """y ~ N(level + slope x, scale^2)."""
    zero, one = x.new_zeros(()), x.new_ones(())
    level = pyro.sample("level", dist.Normal(zero, 2.0))
    slope = pyro.sample("slope", dist.Normal(zero, 1.0)) if has_slope else zero
    scale = pyro.sample("scale", dist.LogNormal(zero, one))
    pyro.sample("y", dist.Normal(level + slope * x, scale).to_event(1), obs=y)


def main(num_rows: int = 30, num_particles: int = 256) -> drl.EvidenceComparison:
    """Simulate, estimate both evidences, and return their comparison."""
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-2, 2, num_rows, dtype=torch.float64)
    y = 1.0 + 0.5 * x + 0.6 * torch.randn(num_rows, generator=generator, dtype=torch.float64)
    models = {"with a slope": partial(line, has_slope=True), "without": partial(line, has_slope=False)}
    settings = drl.SandwichSettings(num_particles=num_particles)
    comparison = drl.compare_evidence(models, x, y, seed=0, settings=settings)
    print(comparison)
    print(comparison.bayes_factor("with a slope", "without"))
    return comparison


if __name__ == "__main__":
    main()
