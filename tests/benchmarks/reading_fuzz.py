"""Tables in random dialects, written and read back: ``python -m tests.benchmarks.reading_fuzz --examples 10000``.

Prints each table that is not read back cell by cell, and how many were tried.
"""

import argparse
import time
import warnings

from hypothesis import HealthCheck, Phase, given, seed, settings

from drl_density.errors import DataWarning
from tests.integration.random_tables import check_reading, written_tables


def main() -> None:
    """Try them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-failures", type=int, default=5)
    options = parser.parse_args()
    counts, start = {"tried": 0, "failed": 0}, time.time()

    @seed(options.seed)
    @settings(
        max_examples=options.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(written_tables())
    def attempt(table):
        if counts["failed"] >= options.most_failures:
            return
        counts["tried"] += 1
        if counts["tried"] % 1000 == 0:
            print(
                f"{counts['tried']} tables, {counts['failed']} not read back, {time.time() - start:.0f} s", flush=True
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                check_reading(table)
        except Exception as error:
            counts["failed"] += 1
            print(f"{type(error).__name__}: {error}\n{table}\n", flush=True)

    attempt()
    print(f"{counts['tried']} tables, {counts['failed']} not read back, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
