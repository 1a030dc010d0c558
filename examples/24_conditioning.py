"""One column given the other, without retraining: draws, and the normalised conditional density compared with the exact one.

    p(x1 | x0) = p(x0, x1) / integral of p(x0, x1) dx1, by sequential Monte Carlo down the noise levels

Expected: four modes, one for each time that the line x0 = 1/2 crosses a ring, with their weights, and log densities within a
few hundredths of a nat of the truth.
"""

import torch

import drl_density as drl


def main(
    x0: float = 0.5,
    num_rows: int = 10_000,
    num_draws: int = 1000,
    max_minutes: float = 2.0,
    settings: drl.FitSettings | None = None,
) -> dict[str, torch.Tensor]:
    """Fit and condition; returns draws of x1, a grid, and the model's and the exact density on it."""
    data = drl.load_dataset("two_rings", seed=0, num_rows=num_rows)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    conditional = density.condition({"x0": x0}, normalize=True, seed=0)
    torch.manual_seed(0)
    draws = conditional.sample((num_draws,))[:, 0]
    grid = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    exact = data.log_density(torch.stack([torch.full_like(grid, x0), grid], 1))
    exact = exact - torch.logsumexp(exact, 0) - (grid[1] - grid[0]).log()
    model = conditional.log_prob(grid[:, None])
    gap = (exact.exp() * (exact - model) * (grid[1] - grid[0])).sum()
    print(f"Kullback-Leibler divergence of the model's conditional from the exact one {float(gap):.4f} nats")
    print(f"log normaliser of the slice: {conditional.estimate}")
    print(f"share of draws above 0: {float((draws > 0).double().mean()):.3f} (exact 0.5)")
    return {"draws": draws, "grid": grid, "model": model.exp(), "exact": exact.exp()}


if __name__ == "__main__":
    main()
