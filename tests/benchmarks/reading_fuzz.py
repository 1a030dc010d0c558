"""Tables held in random ways, written in random dialects and read back: ``python -m tests.benchmarks.reading_fuzz``.

Draws text files (separators, quotes, encodings, numbers, headers, comments, saved indices) and frames, Arrow tables,
records and Parquet files (types and marks of missing values). Prints each table that is not read back cell by cell, and
how many were tried.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from drl_density.errors import DataWarning
from tests.integration.random_frames import check_holding, held_tables
from tests.integration.random_tables import check_reading, written_tables

KINDS = {"text": (written_tables, check_reading), "frames": (held_tables, check_holding)}


def main() -> None:
    """Try them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=10_000, help="tables of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-failures", type=int, default=5)
    options = parser.parse_args()
    for kind in options.kinds:
        attempt_all(kind, *KINDS[kind], options)


def attempt_all(kind: str, tables: Callable[[], Any], check: Callable[[Any], None], options: argparse.Namespace) -> None:
    """Draws and checks the tables of one kind."""
    counts, start = {"tried": 0, "failed": 0}, time.process_time()

    def summary() -> str:
        seconds = time.process_time() - start
        return f"{kind}: {counts['tried']} tables, {counts['failed']} not read back, {seconds:.0f} s of the processor"

    @seed(options.seed)
    @settings(
        max_examples=options.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(tables())
    def attempt(table):
        if counts["failed"] >= options.most_failures:
            return
        counts["tried"] += 1
        if counts["tried"] % 1000 == 0:
            print(summary(), flush=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                check(table)
        except Exception as error:
            counts["failed"] += 1
            print(f"{type(error).__name__}: {error}\n{table}\n", flush=True)

    attempt()
    print(summary())


if __name__ == "__main__":
    main()
