"""Two densities multiplied: a learned banana and a Gaussian expert. Adjusted chains draw from the product, and the sandwich
normalises it.

    p(x) proportional to p_banana(x) N(x; (0, 1), 0.5^2 I)

Expected: draws that lie where both densities are high, and log Z of the product with a two-sided interval.
"""

import pyro.distributions as dist
import torch

import drl_density as drl


def main(
    num_draws: int = 500, max_minutes: float = 2.0, settings: drl.FitSettings | None = None
) -> tuple[torch.Tensor, torch.Tensor, drl.Sandwich]:
    """Fit, multiply, and return (rows of the banana, draws of the product, sandwich)."""
    data = drl.load_dataset("banana", seed=0)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    expert = dist.Normal(torch.tensor([0.0, 1.0], dtype=torch.float64), 0.5).to_event(1)
    both = drl.product([density.distribution(), expert])
    draws = both.sample((num_draws,))
    result = drl.sandwich(both, base=dist.Normal(expert.mean, 0.8).to_event(1), seed=0)
    print(f"mean of the product {draws.mean(0).tolist()}, of the banana {data.train.mean(0).tolist()}")
    print(result)
    return data.test, draws, result


if __name__ == "__main__":
    main()
