"""One rival on one split, in a process of its own, so that its time and its memory can be told apart.

python -m tests.benchmarks.tables.job --set pima --split 0 --rival gmm --minutes 1 --out result.json
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drl_density.density.fitting.table import Table, prepare_table
from tests.benchmarks.tables.classical import fit_gaussian, fit_kernels, fit_mixture
from tests.benchmarks.tables.contract import Budget, Fitted, NotInstalled, Rival, Rows
from tests.benchmarks.tables.flows import fit_flow
from tests.benchmarks.tables.optional import fit_circuit, fit_trees, fit_vine
from tests.benchmarks.tables.ours import fit_ours, reference_of
from tests.benchmarks.tables.sets import SplitTable, available_sets, split_table

OURS, REFERENCE = "drl_density", "reference"

RIVALS: dict[str, Rival] = {
    "gaussian": fit_gaussian,
    "gmm": fit_mixture,
    "kde": fit_kernels,
    "vine": fit_vine,
    "nsf": functools.partial(fit_flow, "nsf"),
    "maf": functools.partial(fit_flow, "maf"),
    "trees": fit_trees,
    "circuit": fit_circuit,
}
"""Rivals by name; ours and its reference are fitted together under the name ``drl_density``."""


CLOCKS = ("wall", "processor")
"""What a minute is counted by: the clock on the wall, or the processor time of a job's one thread."""


def run_job(split: SplitTable, rival: str, minutes: float, seed: int) -> list[dict[str, Any]]:
    """Results of one rival on one split: two of ours, our reference being one of them, and one of every other.

    Args:
        split: Rows and units.
        rival: ``drl_density``, or a name of :data:`RIVALS`.
        minutes: Time of the fit.
        seed: Seed of the fit.
    """
    table = prepare_table(split.dataset)
    test = table.rows(split.dataset.test, generator=torch.Generator().manual_seed(1))
    memory, started = _peak_memory(), time.process_time()
    if rival == OURS:
        density, fitted, seconds = fit_ours(split.dataset, minutes, seed)
        ours = _result(fitted, test, split.unit, seconds, started, memory)
        reference = _result(reference_of(density, table), test, split.unit, 0.0, time.process_time(), memory)
        return [{"rival": OURS, **ours}, {"rival": REFERENCE, **reference}]
    rows = Rows.of(table)
    started, begun = time.process_time(), time.monotonic()
    fitted = RIVALS[rival](rows, Budget.start(60 * minutes), seed)
    seconds = time.monotonic() - begun
    fitted = Fitted(_in_data_units(fitted, table), fitted.normalizer, fitted.detail)
    return [{"rival": rival, **_result(fitted, test, split.unit, seconds, started, memory)}]


def _in_data_units(fitted: Fitted, table: Table) -> Any:
    """Log density in data units of what was fitted in model space."""

    def log_density(rows: Tensor) -> Tensor:
        u, jacobian = table.transform.with_log_jacobian(rows)
        return fitted.log_density(u) + jacobian

    return log_density


def _result(fitted: Fitted, test: Tensor, unit: float, seconds: float, started: float, memory: float) -> dict[str, Any]:
    """Test log-likelihood of a fitted rival with its rows, its time and its memory."""
    begun = time.monotonic()
    values = fitted.log_density(test).double() + unit
    return {
        "status": "done",
        "log_likelihood": float(values.mean()),
        "fit_seconds": round(seconds, 1),
        "score_seconds": round(time.monotonic() - begun, 1),
        "processor_seconds": round(time.process_time() - started, 1),
        "memory_mib": round(_peak_memory() - memory),
        "normalizer": fitted.normalizer,
        "detail": fitted.detail,
        "rows": [round(value, 4) for value in values.tolist()],
    }


def _peak_memory() -> float:
    """Largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Fit, score and write the results; what goes wrong is written too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", required=True)
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--rival", choices=(OURS, *RIVALS), required=True)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default=CLOCKS[0])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.clock == "processor":
        # Every limit of time here, our own included, reads time.monotonic. On a busy machine the seconds that this process
        # had of the processor take its place, so that nobody's minute is shortened by other work.
        time.monotonic = time.process_time
    split = split_table(available_sets(args.data)[args.set], args.split, args.data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            results = run_job(split, args.rival, args.minutes, args.seed)
    except NotInstalled as error:
        results = [{"rival": args.rival, "status": "not installed", "reason": f"no module of {error}"}]
    except Exception as error:  # the table shows what failed, and why
        traceback.print_exc()
        results = [{"rival": args.rival, "status": "failed", "reason": f"{type(error).__name__}: {error}"}]
    data = split.dataset
    sizes = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    results = [{**result, **sizes, "columns": data.num_columns} for result in results]
    args.out.write_text(json.dumps(results))


if __name__ == "__main__":
    sys.exit(main())
