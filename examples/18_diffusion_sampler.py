"""A denoising diffusion sampler (DDS) for a density known in closed form: trained without data, with bounds on both sides of
log Z.

Its control is learned on the draws of adjusted chains by lowering the upper bound, then a little on its own walks by
raising the lower one, as in the paper.

    log Z >= E_walk[log w] (ELBO),   log Z <= E_target[log w] (EUBO),   log Z = log E_walk[w]

The target is e^2 times a Pyro mixture, so log Z = 2. Expected: a lower and an upper bound that close in on 2, and an
estimate that lies between them. (Vargas, Grathwohl and Doucet 2023)
"""

import math

import pyro.distributions as dist
import torch

from drl_density.diffusion_sampler import DiffusionSamplerSettings, train_diffusion_sampler


def petals(num: int = 5) -> dist.TorchDistribution:
    """Gaussians of unequal weight on a circle of radius 2."""
    angles = 2 * math.pi * torch.arange(num, dtype=torch.float64) / num
    means = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    weights = dist.Categorical(torch.arange(1, num + 1, dtype=torch.float64))
    return dist.MixtureSameFamily(weights, dist.Normal(means, 0.4).to_event(1))


def main(
    num_steps: int = 32, num_updates: int = 600, num_walks: int = 500
) -> tuple[list[float], torch.Tensor, dict[str, float]]:
    """Train; returns (upper bound at every update on chains, ends of walks, the three figures)."""
    target = petals()
    settings = DiffusionSamplerSettings(
        num_steps=num_steps, scale=2.0, num_chain_updates=num_updates, num_walk_updates=num_updates // 6
    )
    sampler, seen = train_diffusion_sampler(
        lambda x: 2.0 + target.log_prob(x), (2,), settings=settings, generator=torch.Generator().manual_seed(0)
    )
    generator = torch.Generator().manual_seed(0)
    estimate = sampler.log_partition(num_samples=num_walks, generator=generator)
    torch.manual_seed(0)
    upper = sampler.reverse(target.sample((8 * num_walks,)), generator=generator)
    found = {"ELBO": estimate.mean_log_weight, "log Z": estimate.log_z, "EUBO": float(upper.mean())}
    for name, value in found.items():
        print(f"{name:6s} {value:.3f}  (truth 2)")
    print(estimate)
    return seen.upper_bounds, sampler.sample(8 * num_walks, generator=generator), found


if __name__ == "__main__":
    main()
