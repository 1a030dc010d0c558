"""log Z of every level in three ways: by annealing from above, by the constants that training learned, and by the papers'
recursion.

    log Z_t = log Z_{t+1} + log mean exp(F_t - F_{t+1}) over draws of level t+1    (Gao et al. 2021)

Expected: a table with the spread of annealing's replicates. The recursion uses noised data in place of draws of each level's
model, and is biased where levels disagree.
"""

import torch

import drl_density as drl
from drl_density.partition_function import AISSettings, anneal, level_recursion, plan_annealing, sequence_path


def main(
    num_rows: int = 500,
    num_particles: int = 64,
    max_minutes: float | None = 5.0,
    settings: drl.FitSettings | None = None,
) -> torch.Tensor:
    """Fit and print a table; returns ``(level, 4)``: annealing, constants, recursion, spread."""
    data = drl.load_dataset("digits", seed=0)
    settings = settings or drl.FitSettings.preset("digits")
    density = drl.fit(data, seed=0, settings=settings, max_minutes=max_minutes, progress=False)
    model, generator = density.model, torch.Generator().manual_seed(0)
    sizes = AISSettings(num_particles=num_particles, num_replicates=4, num_pilot_particles=num_particles)
    path = sequence_path(model, steps_per_level=4)
    run = anneal(path, plan_annealing(path, sizes, generator=generator), sizes, generator=generator)
    rows = density.transform(data.train[:num_rows].double()).float()
    levels = range(model.num_levels)
    noised = [model.schedule.diffuse(rows, level + 1, generator=generator) for level in levels[:-1]]
    noised.append(torch.randn(rows.shape, generator=generator))
    recursion = level_recursion(model, noised)
    table = []
    for level in levels:
        by_replicate = run.log_z_by_density[path.levels.index(float(level))]
        annealed, spread = float(by_replicate.mean()), float(by_replicate.std())
        learned, recursed = float(model.log_normalizers[level]), float(recursion[level])
        table.append([annealed, learned, recursed, spread])
        print(
            f"level {level}: annealing {annealed:.3f} (spread {spread:.3f}), learned {learned:.3f}, recursion {recursed:.3f}"
        )
    return torch.tensor(table)


if __name__ == "__main__":
    main()
