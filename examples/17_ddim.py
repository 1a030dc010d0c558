"""DDIM on a fitted density: draws in any number of steps, latent codes of rows, and an interpolation between two of them.

    x_s = alpha_s x0_hat(x_t) + sigma_s (x_t - alpha_t x0_hat(x_t)) / sigma_t,   eta = 0    (Song et al. 2021)

Expected: draws that sharpen with the steps, codes that decode to the rows they came from, and an interpolation that stays on
the rings where a straight line between the two rows would leave them.
"""

import torch

import drl_density as drl
from drl_density.samplers import DDIMSettings, interpolate_codes, invert_ddim, sample_ddim


def main(
    num_rows: int = 10_000, num_draws: int = 600, max_minutes: float = 2.0, settings: drl.FitSettings | None = None
) -> tuple[dict[int, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Fit, draw, invert, interpolate; returns (draws by number of steps, the two rows, the way between them)."""
    data = drl.load_dataset("two_rings", seed=0, num_rows=num_rows)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    model, generator, draws = density.model, torch.Generator().manual_seed(0), {}
    noise = torch.randn(num_draws, 2, generator=generator)
    for num_steps in (3, 10, 50):
        found = sample_ddim(model, num_draws, settings=DDIMSettings(num_steps=num_steps), noise=noise).draws
        draws[num_steps] = density.transform.inv(found.double())
        print(f"{num_steps:2d} steps: mean log density {float(density.log_prob(draws[num_steps]).mean()):.3f} nats")
    own = density.sample(num_draws, seed=1)
    print(f"adjusted chains: mean log density {float(density.log_prob(own).mean()):.3f} nats")
    walk = DDIMSettings(num_steps=200)
    # Two rows of the outer ring, one on each side.
    outer = data.test[data.test.norm(dim=1) > data.test.norm(dim=1).mean()]
    ends = torch.stack([outer[outer[:, 0].argmin()], outer[outer[:, 1].argmax()]]).double()
    codes = invert_ddim(model, density.transform(ends).float(), settings=walk)
    between = interpolate_codes(codes[0], codes[1], torch.linspace(0, 1, 25))
    way = density.transform.inv(sample_ddim(model, len(between), settings=walk, noise=between).draws.double())
    print(f"decoded ends are {float((way[[0, -1]] - ends).norm(dim=1).max()):.3f} from the rows they came from")
    return draws, ends, way


if __name__ == "__main__":
    main()
