"""Runs of the table, each in a process of its own, resumed where the file stands."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path

from drl_density.testing import known_target
from tests.benchmarks.log_z.job import OURS, blank_run, run_job
from tests.benchmarks.log_z.record import Run, add_run, read_runs
from tests.benchmarks.log_z.rivals import BOXES
from tests.benchmarks.log_z.table import table_row

ROOT = Path(__file__).parents[3]
WALL_FACTOR = 6.0
"""Wall seconds per processor second after which a process that waits for something is ended."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        names: names of the targets.
        methods: the sandwich first, then rivals.
        seeds: seeds of every target.
        particles: particles per replicate of the sandwich.
        limit: processor seconds of one run.
        jobs: processes side by side.
        minutes: minutes after which no run begins.
        out: folder of ``runs.jsonl``.
        again: whether runs that the file holds are made again.
    """

    names: Sequence[str]
    methods: Sequence[str]
    seeds: Sequence[int]
    particles: int
    limit: float
    jobs: int
    minutes: float
    out: Path
    again: bool = False


def make_runs(plan: Plan) -> list[Run]:
    """Make the runs that the file lacks; returns all that it holds then. Rivals follow the sandwich of their target."""
    path = plan.out / "runs.jsonl"
    commit, begun = commit_name(), time.monotonic()
    done = {} if plan.again else {run.key: run for run in read_runs(path)}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.benchmarks.log_z.job"])

    def series(name: str) -> None:
        """All methods on one target, one seed after another."""
        for seed in plan.seeds:
            for method in plan.methods:
                key = (method, name, seed, plan.particles)
                if key in done and done[key].status != "absent":
                    continue
                if time.monotonic() - begun > 60 * plan.minutes:
                    return
                ours = done.get((OURS, name, seed, plan.particles))
                if method != OURS and name not in BOXES:
                    continue  # rivals have to be told where the target lies
                if method != OURS and (ours is None or not math.isfinite(ours.seconds)):
                    continue  # no time to match
                seconds = plan.limit if method == OURS or ours is None else max(5.0, ours.seconds)
                run = dataclasses.replace(_in_process(context, plan, name, method, seed, seconds), commit=commit)
                done[key] = run
                add_run(path, run)
                print(method, table_row(run), flush=True)

    with ThreadPoolExecutor(plan.jobs) as pool:
        list(pool.map(series, plan.names))
    return read_runs(path)


def _in_process(context: ForkServerContext, plan: Plan, name: str, method: str, seed: int, seconds: float) -> Run:
    """One run; a process that dies or does not end in time is an outcome."""
    limit = plan.limit if method == OURS else 3 * seconds + 60
    receiver, sender = context.Pipe(duplex=False)
    arguments = (name, method, seed, plan.particles, limit, seconds, sender)
    process = context.Process(target=run_job, args=arguments, daemon=True)
    process.start()
    sender.close()
    found = None
    if receiver.poll(WALL_FACTOR * limit + 60):
        with contextlib.suppress(EOFError):  # the process has ended without an outcome
            found = receiver.recv()
    if process.is_alive() and found is None:
        process.kill()
    process.join()
    if found is not None:
        return found
    blank = blank_run(known_target(name), method, seed, plan.particles)
    remark = f"ended after {limit:.0f} s of processor time, exit code {process.exitcode}"
    return dataclasses.replace(blank, status="time", seconds=limit, remark=remark)


def commit_name() -> str:
    """The commit that is measured, with a plus sign where the package differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if git("status", "--porcelain", "drl_density") else "")


def use_one_thread() -> None:
    """One thread per process, for those that are forked from now on."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
