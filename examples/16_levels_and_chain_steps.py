"""How many levels, and how many Langevin steps? The papers' ablation, on a toy whose density is known.

    noise-started unadjusted chains, (T, K) over a small grid, and for every T score matching, which has no chains (DSM);
    the gap is E[log p(x) - log model(x)] on test rows

Expected: a table of gaps in nats, each with the verdict on its log Z, since a gap without a reliable log Z means nothing. In
the paper, on CIFAR-10, one level and few steps do badly. A run that diverges is printed as such.
"""

import dataclasses
import itertools

import drl_density as drl


def main(
    levels: tuple[int, ...] = (1, 3, 6),
    steps: tuple[int, ...] = (3, 10, 30),
    num_training_steps: int = 1000,
    settings: drl.FitSettings | None = None,
) -> dict[tuple[int, str], float | None]:
    """Fit the grid; returns the gap by T and "K = ..." or "DSM", None where training diverged."""
    data = drl.load_dataset("banana", seed=0)
    settings = settings or drl.FitSettings()
    training = dataclasses.replace(settings.training, num_steps=num_training_steps)
    truth = data.log_density(data.test).mean()
    rules: dict[str, drl.AdjustedObjective | drl.DenoisingObjective] = {
        f"K = {k}": drl.AdjustedObjective(num_chain_steps=k, kernel="ula", noisier_share=1.0, chain_step_size=0.5)
        for k in steps
    }
    rules["DSM"] = drl.DenoisingObjective()
    gaps: dict[tuple[int, str], float | None] = {}
    for num_levels, (name, rule) in itertools.product(levels, rules.items()):
        schedule = drl.LogSpacedSchedule(num_levels)
        chosen = dataclasses.replace(settings, objective=rule, schedule=schedule, training=training)
        try:
            density = drl.fit(data, seed=0, settings=chosen, progress=False)
        except drl.errors.TrainingFailed as error:
            gaps[num_levels, name] = None
            print(f"T = {num_levels}, {name}: diverged ({error})")
            continue
        gap = float(truth - density.log_prob(data.test).mean())
        gaps[num_levels, name] = gap
        print(f"T = {num_levels}, {name}: gap {gap:.3f} nats, log Z {density.estimate.verdict}")
    return gaps


if __name__ == "__main__":
    main()
