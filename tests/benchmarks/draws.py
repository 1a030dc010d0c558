"""Effective draws a second of a density's own sampler and of the progressive sampler, and how close both are to test rows.

    python tests/benchmarks/draws.py --data eight_gaussians
    python tests/benchmarks/draws.py --data 29_Pima.npz:X
    python tests/benchmarks/draws.py --data wine --base gaussian --minutes 1 --batches 40

Every run fits a density with the usual recipe, or loads ``--run``, and draws by both samplers in the same process. Draws
are independent chains or resampled rows: n of them count as n^2 / sum(c^2) effective ones, with c the number of times that
each distinct one occurs. Seconds are processor time. The energy distance is between draws and at most 500 test rows in model
space, dequantised and without noise; its mean and standard error are over independent batches of as many draws, which leaves
the sampling error of the test rows common to all. The line of training rows is what exact draws of the truth would show.
Where the density's own sampler takes no chains, they are run too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

import drl_density as drl
from drl_density.density.fitted import dequantized_rows
from drl_density.samplers import importance, plan_level_zero, plan_progressive, sample_level_zero, sample_progressive

MOST_TEST_ROWS = 500


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| over distinct pairs of rows, unbiased for samples of independent rows."""
    x, y = x.double(), y.double()
    within = [torch.cdist(rows, rows).sum() / (len(rows) * (len(rows) - 1)) for rows in (x, y)]
    return float(2 * torch.cdist(x, y).mean() - within[0] - within[1])


def effective(draws: Tensor) -> float:
    """Number of draws that count, where equal rows count as one with a larger weight."""
    _, counts = draws.unique(dim=0, return_counts=True)
    return float(len(draws) ** 2 / counts.double().square().sum())


def main() -> None:
    """Fit or load, draw, and print the lines of a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="eight_gaussians")
    parser.add_argument("--base", default="auto")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--slow-draws", type=int, default=1000)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = drl.load_dataset(args.data, split=drl.Split(seed=args.seed))
    started = time.process_time()
    if args.run is None:
        settings = drl.FitSettings(base=args.base)
        density = drl.fit(data, seed=args.seed, settings=settings, max_minutes=args.minutes, progress=False)
        print(f"fit: {time.process_time() - started:.1f} s of processor time", flush=True)
    else:
        density = drl.Density.load(args.run)
    print(density.summary(), flush=True)
    model, plan = density.model, density.plan
    generator = torch.Generator().manual_seed(args.seed + 1)

    def states(rows: Tensor) -> Tensor:
        return density.to_model(dequantized_rows(density, rows, generator=generator)[0]).flatten(1)

    started = time.process_time()
    progressive = plan_progressive(model, generator=generator)
    print(f"tuning the progressive sampler: {time.process_time() - started:.1f} s", flush=True)
    test = states(data.test[:MOST_TEST_ROWS])
    train = states(data.train[torch.randperm(len(data.train), generator=generator)])
    samplers = {
        plan.method: (args.draws, lambda n: sample_level_zero(model, n, plan=plan, generator=generator).draws),
    }
    if plan.method == "importance":
        importance.LEAST_EVEN_EFFICIENCY = 1.1
        chains = plan_level_zero(model, generator=generator)
        samplers["with chains, as below an efficiency of 0.1"] = (
            args.draws,
            lambda n: sample_level_zero(model, n, plan=chains, generator=generator).draws,
        )
    samplers |= {
        "progressive": (
            args.slow_draws,
            lambda n: sample_progressive(model, n, plan=progressive, generator=generator).draws,
        ),
    }
    print("| draws | number | seconds | effective a second | energy distance to test rows |\n|---|---|---|---|---|")
    parts = [part for part in train.split(len(test)) if len(part) == len(test)]
    print(f"| training rows | {len(parts) * len(test)} | - | - | {summary(parts, test)} |", flush=True)
    rates = []
    for name, (number, draw) in samplers.items():
        started = time.process_time()
        draws = draw(number)
        seconds = time.process_time() - started
        rates.append(effective(draws) / seconds)
        number_compared = args.batches * len(test)
        compared = draws if len(draws) >= number_compared else torch.cat([draws, draw(number_compared - len(draws))])
        batches = list(compared[:number_compared].flatten(1).split(len(test)))
        print(f"| {name} | {number} | {seconds:.2f} | {rates[-1]:.3g} | {summary(batches, test)} |", flush=True)
    print(f"ratio of effective draws a second: {rates[0] / rates[-1]:.3g}")


def summary(parts: list[Tensor], test: Tensor) -> str:
    """Mean energy distance of batches to the test rows, with the standard error over batches."""
    values = torch.tensor([energy_distance(part, test) for part in parts])
    error = f" +- {float(values.std() / len(values) ** 0.5):.4f}" if len(values) > 1 else ""
    return f"{float(values.mean()):.4f}{error}"


if __name__ == "__main__":
    main()
