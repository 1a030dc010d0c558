"""EM distillation: a generator learns from a fitted density to draw with a single network call.

    start: regress g(z) onto the ends of the probability flow;  E: correct noised draws by the gap of the scores;  M: regress

Expected: the student's draws lie hardly farther from draws of the density than other draws of it do, as means over pairs
of sets. A per cent or two lie on bridges between modes, which a continuous map cannot avoid: "outside" counts draws at which
the density is lower than at 99 % of its own draws. The student is not the density, and has no log density. (Xie et al. 2024)
"""

import torch

import drl_density as drl


def distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """Sliced Wasserstein-1 distance of equally many rows, 100 directions."""
    directions = torch.randn(x.shape[1], 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    return float(((x @ directions).sort(0).values - (y @ directions).sort(0).values).abs().mean())


def main(
    num_updates: int = 100,
    num_warm_updates: int = 1000,
    num_draws: int = 1000,
    num_sets: int = 16,
    max_minutes: float = 2.0,
    settings: drl.FitSettings | None = None,
) -> dict[str, torch.Tensor]:
    """Fit, distil, compare; returns the draws by name."""
    data = drl.load_dataset("eight_gaussians", seed=0)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    sizes = drl.DistillSettings("em", num_updates=num_updates, num_warm_updates=num_warm_updates)
    student = density.distill(settings=sizes, seed=0)
    count = num_sets * num_draws
    draws, others = (density.sample(count, seed=seed) for seed in (1, 2))
    floor = density.log_prob(draws).quantile(0.01)
    found = {"the density": draws, "the density again": others, "student, 1 call": student.sample(count, seed=3)}
    for name, rows in list(found.items())[1:]:
        outside = float((density.log_prob(rows) < floor).double().mean())
        pairs = zip(rows.split(num_draws), draws.split(num_draws), strict=True)
        mean = sum(distance(x, y) for x, y in pairs) / num_sets
        print(f"{name:18s} mean distance to the density's draws {mean:.4f}, outside {outside:.1%}")
    print(student)
    return {name: rows[:num_draws] for name, rows in found.items()}


if __name__ == "__main__":
    main()
