"""The evidence of your own Pyro models: does a straight line need a slope?

    log p(y) = log of the integral of p(z, y) over the latent sites z, by the sandwich on the unconstrained vector

Expected: both evidences with intervals, and a Bayes factor of several nats for the model with the slope.
"""

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


def main(num_rows: int = 30, num_particles: int = 256) -> tuple[drl.Sandwich, drl.Sandwich]:
    """Simulate, estimate both evidences, and return them (with, without the slope)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-2, 2, num_rows, dtype=torch.float64)
    y = 1.0 + 0.5 * x + 0.6 * torch.randn(num_rows, generator=generator, dtype=torch.float64)
    settings = drl.SandwichSettings(num_particles=num_particles)
    results = []
    for has_slope in (True, False):
        target = drl.joint_density(line, x, y, has_slope=has_slope)
        results.append(drl.sandwich(target, seed=0, settings=settings))
        low, high = results[-1].lower, results[-1].upper
        print(
            f"slope {has_slope}: log evidence {results[-1].log_z:.3f} in [{low:.3f}, {high:.3f}], {results[-1].verdict}"
        )
    print(f"log Bayes factor {results[0].log_z - results[1].log_z:.2f} nats for the slope")
    return results[0], results[1]


if __name__ == "__main__":
    main()
