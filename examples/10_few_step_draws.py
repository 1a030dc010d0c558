"""Draws for a few network calls each, and what leads them back to the density: DDIM, a finetuned walk, adjusted chains.

    MMD-finetuned walk of 3 calls -> draws that are not the density's -> adjusted chains on the density -> draws that are

Expected: the walk of three steps is visibly off, finetuning mends most of it, and chains from its draws mend the rest, in
sliced Wasserstein distance to held-out rows; R-hat says whether the chains were long enough.
"""

import torch

import drl_density as drl
from drl_density.samplers import RefinementSettings


def distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """Sliced Wasserstein-1 distance of equally many rows, 100 directions."""
    directions = torch.randn(x.shape[1], 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    return float(((x @ directions).sort(0).values - (y @ directions).sort(0).values).abs().mean())


def main(
    num_updates: int = 200, num_steps: int = 200, max_minutes: float = 2.0, settings: drl.FitSettings | None = None
) -> dict[str, torch.Tensor]:
    """Fit, draw in three ways, print each one's distance to held-out rows; returns the draws by name."""
    data = drl.load_dataset("eight_gaussians", seed=0)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    held = torch.cat([data.validation, data.test]).double()
    walk = density.draw(len(held), settings=drl.DrawSettings("ddim", num_steps=3), seed=0).draws
    made = density.distill(data.train, settings=drl.DistillSettings(num_calls=3, num_updates=num_updates), seed=0)
    finetuned = made.sample(len(held), seed=1)
    chains = made.correct(len(held), settings=RefinementSettings(num_steps=num_steps), seed=2)
    found = {"training rows": data.train[: len(held)].double(), "DDIM, 3 calls": walk}
    found |= {"finetuned, 3 calls": finetuned, "chains from those": chains.draws}
    for name, draws in found.items():
        print(f"{name:20s} {distance(draws, held):.4f}")
    print(f"largest R-hat of the chains {float(chains.stats['r_hat'].max()):.3f}; {made}")
    return found


if __name__ == "__main__":
    main()
