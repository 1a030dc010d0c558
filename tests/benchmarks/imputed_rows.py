"""Rate and peak memory of ``drl-density impute`` from Parquet to Parquet, on a small fit to red wine.

    python tests/benchmarks/imputed_rows.py --npz uci_rnade.npz --rows 10000 1000000 --out records/imputed_rows.jsonl

The table is drawn from the fit, and each of its cells is removed with probability 0.2, so nearly every row has missing
cells, in up to 2,048 patterns. Seconds of the processor are those of the command alone, from start to end: reading, draws
and writing. One JSON line for each number of rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import torch

import drl_density as drl

SHARE = 0.2
GROUP = 100_000
"""Rows that are drawn and written at once."""
BODY = """import json, resource, sys
from drl_density.cli import main
code = main(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_SELF)
memory = open('/proc/self/status').read().split('VmHWM:')[1].split()[0]
print(json.dumps({"processor": usage.ru_utime + usage.ru_stime, "peak": int(memory) / 2**20}))
sys.exit(code)
"""


def write_table(density: drl.Density, path: Path, num_rows: int) -> float:
    """Draws without a fifth of their cells, row group by row group; returns the share of rows with a missing cell."""
    rng, writer, incomplete = np.random.default_rng(7), None, 0
    for first in range(0, num_rows, GROUP):
        count = min(GROUP, num_rows - first)
        frame = density.sample_frame(count, seed=first)
        mask = rng.random(frame.shape) < SHARE
        incomplete += int(mask.any(1).sum())
        group = pa.Table.from_pandas(frame.astype("float64").mask(mask), preserve_index=False)
        writer = writer or parquet.ParquetWriter(path, group.schema)
        writer.write_table(group)
    writer.close()
    return incomplete / num_rows


def measured(density: drl.Density, run: Path, folder: Path, num_rows: int, num_samples: int) -> dict[str, object]:
    """One command in a process of its own."""
    source, out = folder / "gaps.parquet", folder / "filled.parquet"
    share = write_table(density, source, num_rows)
    arguments = ["impute", run, source, "--out", out, "--num-samples", num_samples, "--seed", 0]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", BODY, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    found = json.loads(done.stdout.splitlines()[-1])
    written = parquet.ParquetFile(out)
    missing = sum(int(pd.isna(batch.to_pandas()).sum().sum()) for batch in written.iter_batches(GROUP))
    return {
        "rows": num_rows,
        "completions": num_samples,
        "incomplete": share,
        "written": written.metadata.num_rows,
        "missing_after": missing,
        "seconds": seconds,
        "processor_seconds": found["processor"],
        "rows_per_processor_second": num_rows / found["processor"],
        "peak_gib": found["peak"],
        "in_gib": source.stat().st_size / 2**30,
        "out_gib": out.stat().st_size / 2**30,
        "group_mib_in_memory": GROUP * len(density.columns) * 8 / 2**20,
    }


def main() -> None:
    """Fit, then measure each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", type=Path, required=True, help="archive with red_wine")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--completions", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines to add to")
    parser.add_argument("--folder", type=Path, help="existing folder for the tables, which are deleted at the end")
    parser.add_argument("--minutes", type=float, default=1.0, help="minutes of the fit")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = np.load(given.npz)["red_wine"].astype(np.float64)
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        run = Path(place) / "run"
        density = drl.fit(rows, seed=0, max_minutes=given.minutes, progress=False)
        density.save(run)
        for number in given.rows:
            line = measured(density, run, Path(place), number, given.completions)
            line |= {"version": drl.__version__, "member": density.provenance.selected_member, "columns": rows.shape[1]}
            with given.out.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            print(line, flush=True)


if __name__ == "__main__":
    main()
