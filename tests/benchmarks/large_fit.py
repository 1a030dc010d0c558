"""Peak memory and time of a fit from a Parquet file larger than the limit, beside a fit of the same table in memory.

Run by hand: ``python -m tests.benchmarks.large_fit``. It writes a file of 10 million rows and 20 columns into ``--folder``
once, and fits twice, each in a process of its own whose peak resident memory is read from the system.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import drl_density as drl


def write_table(path: Path, num_rows: int, num_columns: int) -> None:
    """A table sorted by its first column, of correlated normal columns, in row groups of 100,000 rows."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rng = np.random.default_rng(0)
    weights = rng.normal(size=(num_columns, num_columns)) / num_columns**0.5
    names = [f"x{index}" for index in range(num_columns)]
    schema = pa.schema([(name, pa.float64()) for name in names])
    size = 100_000
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, num_rows, size):
            count = min(size, num_rows - start)
            rows = rng.normal(size=(count, num_columns)) @ weights + np.eye(num_columns)[0] * start / num_rows
            writer.write_table(pa.table(list(rows.T.copy()), schema=schema))


def fit(path: Path, num_steps: int, max_rows_in_memory: int) -> None:
    """Fits once and prints time, peak memory and the validation likelihood."""
    started = time.monotonic()
    data = drl.load_dataset(str(path), seed=0, max_rows_in_memory=max_rows_in_memory)
    loaded = time.monotonic()
    settings = drl.FitSettings(
        base="gaussian", training=drl.TrainingSettings(num_steps=num_steps, evaluate_every=num_steps // 2)
    )
    density = drl.fit(data, seed=0, settings=settings, progress=False)
    done = time.monotonic()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    kind = "in memory" if data.stream is None else f"streamed, {data.stream.num_rows.train} training rows"
    print(
        f"{kind}: load {loaded - started:.0f} s, fit {done - loaded:.0f} s, peak {peak:.2f} GiB, "
        f"validation {density.baselines.model:.3f} nats (Gaussian {density.baselines.gaussian:.3f})",
        flush=True,
    )


def main() -> None:
    """Writes the table if it is not there, and runs both fits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    parser.add_argument("--num-rows", type=int, default=10_000_000)
    parser.add_argument("--num-columns", type=int, default=20)
    parser.add_argument("--num-steps", type=int, default=200)
    parser.add_argument("--rows-in-memory", type=int, nargs="*", default=[1_000_000, 100_000_000])
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    path = options.folder / f"large_fit_{options.num_rows}x{options.num_columns}.parquet"
    if options.only is not None:
        fit(path, options.num_steps, options.only)
        return
    if not path.is_file():
        write_table(path, options.num_rows, options.num_columns)
    print(f"{path}: {path.stat().st_size / 2**30:.2f} GiB")
    for rows in options.rows_in_memory:
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.large_fit", *sys.argv[1:], "--only", str(rows)], check=True
        )


if __name__ == "__main__":
    main()
