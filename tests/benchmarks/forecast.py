"""Does --max-minutes hold, and is the forecast of the training time honest?

python tests/benchmarks/forecast.py [--names wine eight_gaussians digits] [--minutes 1 2]

"forecast / actual" compares seconds per step, so that early stopping does not flatter or blame the forecast.
"""

from __future__ import annotations

import argparse
import time

import torch

import drl_density as drl


def main() -> None:
    """Print one line per data set and bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=["wine", "eight_gaussians", "digits"])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{'data':16s} {'allowed s':>9s} {'took s':>7s} {'steps':>6s} {'forecast / actual':>18s}")
    for name in args.names:
        for minutes in args.minutes:
            data = drl.load_dataset(name, seed=0)
            started = time.monotonic()
            density = drl.fit(data, seed=0, max_minutes=minutes, progress=False)
            seconds = time.monotonic() - started
            made = density.provenance
            planned = density.settings.training.num_steps * len(made.best_step)
            ratio = (made.forecast_seconds / planned) / (made.training_seconds / made.steps_done)
            print(f"{name:16s} {60 * minutes:9.0f} {seconds:7.0f} {made.steps_done:6d} {ratio:18.2f}", flush=True)


if __name__ == "__main__":
    main()
