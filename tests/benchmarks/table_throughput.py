"""Rows scored, drawn and filled a second beside the bare network and zuko's spline flow; time and memory of commands.

    python tests/benchmarks/table_throughput.py                        # rates of 1e4 and 1e6 rows, and commands on 1e6 rows
    python tests/benchmarks/table_throughput.py --large 10000000       # drl-density score on that many rows of Parquet alone
    python tests/benchmarks/table_throughput.py --large 10000000 --command sample   # the same of sample, impute or outliers
    python tests/benchmarks/table_throughput.py --rates                # rates of 1e4 and 1e6 rows alone

Figures of one run are measured side by side, with one thread each. The fit is short: times do not depend on what it has
learned. Peak memory is the largest resident size of a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import torch

import drl_density as drl

NUM_COLUMNS = 20
BLOCK = 1024
"""Rows of one pass of the bare network and of the flow: the fastest of 1,024, 2,048, 4,096 and 16,384 on a CPU."""
MOST_SLOW = 50_000
"""Rows that the flow and the profiles over levels are timed on at most: they take 0.2 ms a row and more."""
MOST_IMPUTED = 10_000
"""Rows that are imputed: the rate of larger tables is that of their blocks, as each row is worked on by itself."""
GROUP = 100_000
"""Rows of a row group of the large file."""


def table(num_rows: int, seed: int = 0) -> pd.DataFrame:
    """Correlated columns, one of them positive, one rounded and one of counts."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(NUM_COLUMNS) + np.random.default_rng(1).normal(size=(NUM_COLUMNS, NUM_COLUMNS)) / 4
    values = rng.normal(size=(num_rows, NUM_COLUMNS)) @ mixing
    values[:, 0] = np.exp(values[:, 0])
    values[:, 1] = values[:, 1].round(2)
    values[:, 2] = rng.poisson(40, num_rows)
    return pd.DataFrame(values, columns=[f"c{index}" for index in range(NUM_COLUMNS)])


def rows_of(num_rows: int, seed: int) -> torch.Tensor:
    """The same as a tensor."""
    return torch.tensor(table(num_rows, seed).to_numpy())


def seconds(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak() -> float:
    """Largest resident size of this process so far, GiB; that of getrusage starts at the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def show(num_rows: int, name: str, needed: float, beside: str = "") -> None:
    """One line with a rate and the peak memory so far."""
    print(
        f"{num_rows:>10,} rows  {name:22s} {num_rows / needed:>12,.0f} rows/s  peak {peak():.2f} GiB  {beside}",
        flush=True,
    )


def passes(work: Callable[[torch.Tensor], object], rows: torch.Tensor) -> Callable[[], object]:
    """``work`` on all rows in blocks, without gradients."""

    def run() -> None:
        with torch.no_grad():
            for part in rows.split(BLOCK):
                work(part)

    return run


def rates(run: Path, num_rows: int) -> None:
    """Rows scored, drawn and filled a second, in the process of its own that the peak memory is of."""
    import zuko

    density = drl.Density.load(run)
    rows = rows_of(num_rows, 2)
    show(num_rows, "(the rows themselves)", 1.0)
    needed = seconds(lambda: density.log_prob(rows))
    show(num_rows, "log_prob", needed)
    states = density.to_states(rows)
    log_snr = density.model.schedule.log_snr_at(0).to(states)
    bare = seconds(passes(lambda part: density.model.network(part, log_snr), states))
    show(num_rows, "bare network", bare, f"log_prob takes {needed / bare:.1f} times it")
    flow = zuko.flows.NSF(NUM_COLUMNS, transforms=3, hidden_features=(128, 128))
    some = states[:MOST_SLOW]
    of_flow = seconds(passes(lambda part: flow().log_prob(part), some)) * num_rows / len(some)
    show(
        num_rows,
        "log_prob of zuko's NSF",
        of_flow,
        f"on {len(some):,} rows; log_prob takes {needed / of_flow:.2f} times it",
    )
    del states
    needed = seconds(lambda: density.outlier_scores(rows[:MOST_SLOW]))
    show(num_rows, "outlier_scores", needed * num_rows / len(some), f"on {len(some):,} rows")


def generation(run: Path, num_rows: int) -> None:
    """Draws and imputations a second."""
    density = drl.Density.load(run)
    show(num_rows, "sample", seconds(lambda: density.sample(num_rows, seed=0)))


def imputation(run: Path, num_rows: int) -> None:
    """Completions a second of rows in which every fifth cell is missing."""
    density = drl.Density.load(run)
    gaps = rows_of(num_rows, 3)
    gaps[:, ::5] = torch.nan
    show(num_rows, "impute, 5 completions", seconds(lambda: density.impute(gaps, num_samples=5, seed=0)))


def in_own_process(name: str, *arguments: object) -> None:
    """Run a function of this file in a new process, whose memory is its own."""
    subprocess.run([sys.executable, __file__, "--only", name, *map(str, arguments)], check=True)


def measured(*arguments: object) -> tuple[float, float]:
    """(seconds, peak resident size in GiB) of the command line with these arguments, in a process of its own."""
    body = "import sys; from drl_density.cli import main; code = main(sys.argv[1:]); "
    body += "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]); sys.exit(code)"
    started = time.perf_counter()
    command = [sys.executable, "-c", body, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, int(done.stdout.split()[-1]) / 2**20


def commands(run: Path, folder: Path, num_rows: int) -> None:
    """Time and memory of ``drl-density score`` against reading and writing the same file."""
    table(num_rows, 4).to_parquet(folder / "in.parquet")
    table(num_rows, 4).to_csv(folder / "in.csv", index=False)
    for ending, read, write in (("parquet", pd.read_parquet, pd.DataFrame.to_parquet), ("csv", pd.read_csv, to_csv)):
        source, plain = folder / f"in.{ending}", folder / f"plain.{ending}"
        alone = seconds(lambda read=read, write=write, source=source, plain=plain: write(read(source), plain))
        needed, memory = measured("score", run, source, "--out", folder / f"out.{ending}")
        print(
            f"{num_rows:>10,} rows  drl-density score, {ending:7s} {needed:6.1f} s, peak {memory:.2f} GiB; "
            f"pandas reads and writes the file in {alone:.1f} s",
            flush=True,
        )


def to_csv(frame: pd.DataFrame, path: Path) -> None:
    """Text without the numbers of the rows."""
    frame.to_csv(path, index=False)


def write_large(path: Path, num_rows: int, *, has_gaps: bool) -> None:
    """A Parquet file row group by row group; with gaps every fifth column is empty in every second row."""
    with parquet.ParquetWriter(path, pa.Schema.from_pandas(table(1), preserve_index=False)) as writer:
        for first in range(0, num_rows, GROUP):
            frame = table(min(GROUP, num_rows - first), 100 + first // GROUP)
            if has_gaps:
                frame.iloc[::2, ::5] = np.nan
            writer.write_table(pa.Table.from_pandas(frame, preserve_index=False))


def large(run: Path, folder: Path, num_rows: int, command: str) -> None:
    """A command on a Parquet file larger than its memory, or draws into one."""
    source, out = folder / "large.parquet", folder / "large.out.parquet"
    if command == "sample":
        arguments = [run, "-n", num_rows]
    else:
        write_large(source, num_rows, has_gaps=command == "impute")
        arguments = [run, source]
    needed, memory = measured(command, *arguments, "--out", out)
    written = parquet.ParquetFile(out).metadata.num_rows
    sizes = [f"{path.stat().st_size / 2**30:.2f} GiB" for path in (source, out) if path.exists()]
    print(
        f"{num_rows:>10,} rows  drl-density {command}, parquet of {' and '.join(sizes)}: {needed:.0f} s, "
        f"{num_rows / needed:,.0f} rows/s, peak {memory:.2f} GiB, {written:,} rows written",
        flush=True,
    )


PARTS: dict[str, Callable[..., None]] = {"rates": rates, "sample": generation, "impute": imputation}


TRAINING = drl.TrainingSettings(num_steps=60, evaluate_every=30)


def main() -> None:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="larger number of rows")
    parser.add_argument("--commands", action="store_true", help="drl-density score on --rows rows alone")
    parser.add_argument("--rates", action="store_true", help="rates without commands")
    parser.add_argument("--large", type=int, help="rows of a single run of one command")
    parser.add_argument("--command", choices=("score", "sample", "impute", "outliers"), default="score")
    parser.add_argument("--folder", type=Path, help="existing folder for the files, which are deleted at the end")
    parser.add_argument("--only", nargs=3, metavar=("PART", "RUN", "ROWS"), help="one part, in this process")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.only:
        PARTS[given.only[0]](Path(given.only[1]), int(given.only[2]))
        return
    settings = drl.FitSettings(base="mixture", num_pool_draws=200, training=TRAINING)
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder, run = Path(place), Path(place) / "run"
        drl.fit(table(4_000), seed=0, settings=settings, progress=False).save(run)
        if given.large:
            large(run, folder, given.large, given.command)
            return
        if given.commands:
            commands(run, folder, given.rows)
            return
        for number in (10_000, given.rows):
            in_own_process("rates", run, number)
        for number in (10_000, given.rows):
            in_own_process("sample", run, number)
        for number in (1_000, MOST_IMPUTED):
            in_own_process("impute", run, number)
        if not given.rates:
            commands(run, folder, given.rows)


if __name__ == "__main__":
    main()
