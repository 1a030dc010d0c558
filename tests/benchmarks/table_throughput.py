"""Rows scored a second beside the bare network and beside zuko's spline flow; time and memory of ``drl-density score``.

    python tests/benchmarks/table_throughput.py [--rows 1000000]

Every figure is a ratio of what was measured side by side in one run, with one thread. The fit is short: times do not depend
on what it has learned. Memory is the largest resident size of the command's own process.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import drl_density as drl

NUM_COLUMNS = 20


def table(num_rows: int, seed: int = 0) -> pd.DataFrame:
    """Correlated columns, one of them positive, one rounded and one of counts."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(NUM_COLUMNS) + np.random.default_rng(1).normal(size=(NUM_COLUMNS, NUM_COLUMNS)) / 4
    values = rng.normal(size=(num_rows, NUM_COLUMNS)) @ mixing
    values[:, 0] = np.exp(values[:, 0])
    values[:, 1] = values[:, 1].round(2)
    values[:, 2] = rng.poisson(40, num_rows)
    return pd.DataFrame(values, columns=[f"c{index}" for index in range(NUM_COLUMNS)])


def seconds(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def scoring(density: drl.Density, num_rows: int) -> None:
    """Rows a second of the density, the bare network, and zuko's NSF where it is installed."""
    rows = torch.as_tensor(table(num_rows, 2).to_numpy())
    states = density.to_states(rows[:65_536])
    states = states.repeat(-(-num_rows // len(states)), 1)[:num_rows]
    log_snr = density.model.schedule.log_snr_at(0).to(states)
    found = {"log_prob": seconds(lambda: density.log_prob(rows))}
    with torch.no_grad():
        found["bare network"] = seconds(lambda: [density.model.network(part, log_snr) for part in states.split(16_384)])
        if importlib.util.find_spec("zuko") is None:
            print("zuko is not installed: no spline flow beside")
        else:
            import zuko

            flow = zuko.flows.NSF(NUM_COLUMNS, transforms=3, hidden_features=(128, 128))
            found["zuko NSF"] = seconds(lambda: [flow().log_prob(part) for part in states.float().split(16_384)])
    for name, needed in found.items():
        ratio = found["log_prob"] / needed
        print(f"{num_rows:>10,} rows  {name:14s} {num_rows / needed:>12,.0f} rows/s  (log_prob takes {ratio:.2f} times it)")


def command(run: Path, source: Path, out: Path) -> None:
    """Time and memory of ``drl-density score`` against reading and writing the same file."""
    body = f"from drl_density.cli import main; main(['score', {str(run)!r}, {str(source)!r}, '--out', {str(out)!r}])"
    needed = seconds(lambda: subprocess.run([sys.executable, "-c", body], check=True))
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    plain = seconds(lambda: pd.read_parquet(source).to_parquet(out.with_name("plain.parquet")))
    print(f"drl-density score: {needed:.1f} s, {needed / plain:.1f} times reading and writing alone, peak {memory:.2f} GiB")


def main() -> None:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table that the command scores")
    rows = parser.parse_args().rows
    torch.set_num_threads(1)
    settings = drl.FitSettings(num_pool_draws=200, training=drl.TrainingSettings(num_steps=60, evaluate_every=30))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        density = drl.fit(table(4_000), seed=0, settings=settings, progress=False)
        density.save(folder / "run")
        for number in (10_000, min(rows, 1_000_000)):
            scoring(density, number)
        print(f"sample: {2_000 / seconds(lambda: density.sample(2_000, seed=0)):,.0f} rows/s")
        gaps = torch.as_tensor(table(64, 3).to_numpy())
        gaps[:, ::5] = torch.nan
        print(f"impute: {64 / seconds(lambda: density.impute(gaps, num_samples=5, seed=0)):,.1f} rows/s")
        table(rows, 4).to_parquet(folder / "in.parquet")
        command(folder / "run", folder / "in.parquet", folder / "out.parquet")


if __name__ == "__main__":
    main()
