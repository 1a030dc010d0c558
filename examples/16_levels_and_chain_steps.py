"""How many levels, how many Langevin steps: the papers' ablation on a toy whose density is known.

    noise-started unadjusted chains, (T, K) over a small grid; the gap is E[log p(x) - log model(x)] on test rows

Expected: a table of gaps in nats with the verdict on each log Z, without which no gap means anything; in the paper, on
CIFAR-10, one level and few steps do badly. A run that the training doctor stops is printed as diverged.
"""

import itertools

import drl_density as drl


def main(
    levels: tuple[int, ...] = (1, 3, 6),
    steps: tuple[int, ...] = (3, 10, 30),
    num_training_steps: int = 1000,
    settings: drl.FitSettings | None = None,
) -> dict[tuple[int, int], float | None]:
    """Fit the grid; returns the gap by (T, K), None where training diverged."""
    data = drl.load_dataset("banana", seed=0)
    plain = settings.to_dict() if settings else drl.FitSettings().to_dict()
    training = {**plain["training"], "num_steps": num_training_steps}
    truth = data.log_density(data.test).mean()
    gaps: dict[tuple[int, int], float | None] = {}
    for num_levels, num_steps in itertools.product(levels, steps):
        changes = {"num_levels": num_levels, "num_chain_steps": num_steps, "kernel": "ula", "noisier_share": 1.0}
        changes |= {"chain_step_size": 0.5, "training": training}
        chosen = drl.FitSettings.from_dict({**plain, **changes})
        try:
            density = drl.fit(data, seed=0, settings=chosen, progress=False)
        except drl.errors.TrainingFailed as error:
            gaps[num_levels, num_steps] = None
            print(f"T = {num_levels}, K = {num_steps}: diverged ({error})")
            continue
        gap = float(truth - density.log_prob(data.test).mean())
        gaps[num_levels, num_steps] = gap
        print(f"T = {num_levels}, K = {num_steps}: gap {gap:.3f} nats, log Z {density.estimate.verdict}")
    return gaps


if __name__ == "__main__":
    main()
