"""Blurred, noisy digits restored by `reconstruct`, with a fitted energy as the prior, and compared with a Wiener filter.

    y = k * x + e,   e ~ N(0, s^2 I);   p(x | y) proportional to p_0(x) N(y; k * x, s^2 I)

Expected: posterior means nearer to the truth than the Wiener filter, which is the exact posterior mean of a Gaussian prior,
and a map of what is uncertain. "dps" (diffusion posterior sampling) is faster and biased.
"""

import torch

import drl_density as drl
from drl_density.operators import Blur
from drl_density.partition_function import AISSettings


def wiener(y: torch.Tensor, rows: torch.Tensor, operator: Blur, noise: float) -> torch.Tensor:
    """Posterior mean ``(64,)`` with the mean and covariance of ``rows`` as a Gaussian prior."""
    matrix = operator.forward(torch.eye(64, dtype=torch.float64).reshape(64, 8, 8)).flatten(1).T
    mean, covariance = rows.mean(0), rows.T.cov()
    both = matrix @ covariance @ matrix.T + noise**2 * torch.eye(64, dtype=torch.float64)
    return mean + covariance @ matrix.T @ torch.linalg.solve(both, y.flatten() - matrix @ mean)


def main(
    num_digits: int = 3,
    num_draws: int = 64,
    noise: float = 1.0,
    num_steps: int = 100,
    max_minutes: float | None = 10.0,
    settings: drl.FitSettings | None = None,
) -> dict[str, torch.Tensor]:
    """Fit, blur, reconstruct; returns pictures ``(digit, 64)`` by name, grey levels."""
    data = drl.load_dataset("digits", seed=0)
    density = drl.fit(data, seed=0, settings=settings, max_minutes=max_minutes, progress=False)
    bell = torch.exp(-0.5 * torch.arange(-2.0, 3.0, dtype=torch.float64) ** 2)
    operator = Blur(torch.outer(bell, bell) / bell.sum() ** 2)
    generator = torch.Generator().manual_seed(0)
    truth = data.test[:num_digits].double() + 0.5  # the fitted density is that of dequantised grey levels
    clean = operator.forward(truth.reshape(-1, 8, 8))
    measured = clean + noise * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    sizes = AISSettings(num_particles=num_draws, num_replicates=2, num_pilot_particles=num_draws)
    ways = [drl.ReconstructSettings("posterior", annealing=sizes), drl.ReconstructSettings("dps", num_steps=num_steps)]
    names = ("Wiener filter", "DPS mean", "posterior mean", "standard deviation")
    found = {name: [] for name in names}
    for y in measured:
        consistent, fast = (
            density.reconstruct(
                operator, y, noise=noise, num_samples=num_draws, image_shape=(8, 8), settings=way, seed=0
            )
            for way in ways
        )
        print(consistent.summary())
        filtered = wiener(y, data.train.double() + 0.5, operator, noise)
        pictures = (filtered, fast.mean, consistent.mean, consistent.standard_deviation)
        for name, picture in zip(names, pictures, strict=True):
            found[name].append(picture)
    found = {"truth": truth, "measured": measured.flatten(1)} | {name: torch.stack(v) for name, v in found.items()}
    for name in ("measured", *names[:3]):
        print(f"{name}: root mean squared error {float((found[name] - truth).square().mean().sqrt()):.2f} grey levels")
    return found


if __name__ == "__main__":
    main()
