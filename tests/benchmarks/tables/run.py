"""The command line: which sets, rivals, splits and times, and one process for each of them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from filelock import FileLock

from drl_density.errors import DataError
from tests.benchmarks.tables import __doc__ as usage
from tests.benchmarks.tables.job import CLOCKS, OURS, RIVALS
from tests.benchmarks.tables.sets import SETS, TableSet, available_sets
from tests.benchmarks.tables.table import Results, report

ROOT = Path(__file__).parents[3]
SLACK, GRACE = {"wall": 3.0, "processor": 15.0}, 240.0
"""On the wall, a process may take so many times the time of its fit, and so many seconds for all else."""


def main() -> None:
    """Run what the files do not hold yet, then print the table and write it beside them."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.report:
        try:
            sets = available_sets(args.data)
        except DataError as error:
            raise SystemExit(str(error)) from None
        unknown = sorted(set(args.sets or ()) - set(sets))
        if unknown:
            raise SystemExit(f"unknown sets {', '.join(unknown)}: choose from {', '.join(sets)}")
        usual = [name for name in sets if args.data is None or name in SETS]
        jobs = [
            (sets[name], split, rival, minutes)
            for minutes in args.minutes
            for name in args.sets or usual
            for split in range(min(args.splits, sets[name].num_splits))
            for rival in args.rivals
        ]
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda job: _run(job[0], job[1], job[2], job[3], args), jobs))
    text = report(Results.read(args.out), args.data)
    (args.out / "table.md").write_text(text + "\n")
    print(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("DRL_TABLES_DATA")
    parser.add_argument("--data", type=Path, default=Path(folder) if folder else None, help="folder of the tables")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="names; all of the folder when not given")
    parser.add_argument("--rivals", nargs="+", choices=(OURS, *RIVALS), default=[OURS, *RIVALS])
    parser.add_argument(
        "--minutes", nargs="+", type=float, default=[1.0], help="time of a fit; several give a curve"
    )
    parser.add_argument(
        "--clock", choices=CLOCKS, default=CLOCKS[0], help="count the wall clock, or the processor time of one thread"
    )
    parser.add_argument("--splits", type=int, default=1, help="how many of each set's splits, at most ten")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="threads of every process")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time; at most the number of idle cores")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-tables"))
    parser.add_argument("--again", action="store_true", help="run again what the files hold already")
    parser.add_argument("--report", action="store_true", help="write the table only")
    args = parser.parse_args()
    if args.clock == "processor" and args.threads != 1:
        parser.error("--clock processor counts one thread: leave --threads at 1")
    return args


def _run(table: TableSet, split: int, rival: str, minutes: float, args: argparse.Namespace) -> None:
    """One process, unless its result is there; a rival that is not installed is asked again."""
    path = args.out / f"{table.name}.json"
    key = {"split": split, "minutes": minutes, "seed": args.seed, "clock": args.clock}
    is_there = any(
        result["rival"] == rival and key.items() <= result.items() and result["status"] != "not installed"
        for result in _stored(path)
    )
    if is_there and not args.again:
        return
    found = [{**result, **key, "commit": _commit()} for result in _in_process(table, split, rival, minutes, args)]
    with FileLock(f"{path}.lock"):
        names = {result["rival"] for result in found}
        kept = [old for old in _stored(path) if not (old["rival"] in names and key.items() <= old.items())]
        content = {"set": table.name, "family": table.family, "results": kept + found}
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(content))
        fresh.replace(path)
    for result in found:
        value = f"{result['log_likelihood']:.3f}" if result["status"] == "done" else result["reason"]
        print(
            f"{table.name} split {split}, {minutes:g} min, {result['rival']}: {result['status']}, {value}, "
            f"{result.get('fit_seconds', '-')} s, {result.get('detail', '')}",
            flush=True,
        )


def _stored(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["results"] if path.exists() else []


def _in_process(table: TableSet, split: int, rival: str, minutes: float, args: argparse.Namespace) -> list[dict]:
    """Results of one job; a process that does not end in time, or that dies, is a result of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        options = {
            "set": table.name, "split": split, "rival": rival, "minutes": minutes, "seed": args.seed,
            "threads": args.threads, "clock": args.clock, "out": out, **({} if args.data is None else {"data": args.data}),
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.benchmarks.tables.job"]
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        threads = {"OMP_NUM_THREADS": str(args.threads), "MKL_NUM_THREADS": str(args.threads)}
        allowed = SLACK[args.clock] * 60 * minutes + GRACE
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=os.environ | threads, timeout=allowed, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            return [{"rival": rival, "status": "too slow", "reason": f"ended after {allowed:.0f} s"}]
        if not out.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return [{"rival": rival, "status": "failed", "reason": f"exit status {done.returncode}: {last}"}]
        if done.stderr:
            print(done.stderr, file=sys.stderr, flush=True)
        return json.loads(out.read_text())


def _commit() -> str:
    """The commit that is measured, with a plus sign where the package differs from it."""
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    changed = subprocess.run(
        ["git", "status", "--porcelain", "drl_density"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return (head or "unknown") + ("+" if changed else "")
