"""One method on one target, in a process of its own."""

from __future__ import annotations

import dataclasses
import math
import resource
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch

import drl_density as drl
from drl_density.testing import KnownTarget, known_target
from tests.benchmarks.log_z.contract import NotInstalledError
from tests.benchmarks.log_z.record import Run
from tests.benchmarks.log_z.rivals import RIVALS

OURS = "sandwich"
drl.sandwich  # noqa: B018 - loads what runs need before processes are forked


def blank_run(target: KnownTarget, method: str, seed: int, particles: int) -> Run:
    """A run before it has an outcome."""
    return Run(target.name, target.family, target.dim, target.log_z, method, seed, particles, "error")


def run_sandwich(target: KnownTarget, run: Run) -> Run:
    """``drl.sandwich`` without base, data or hints, as a user would call it first."""
    settings = drl.SandwichSettings(num_particles=run.particles)
    found = drl.sandwich(target.target, seed=run.seed, settings=settings)
    return dataclasses.replace(
        run,
        status="done",
        log_z=float(found.log_z),
        lower=float(found.lower),
        upper=float(found.upper),
        verdict=str(found.verdict),
        remark=found.advice,
    )


def run_rival(target: KnownTarget, run: Run, seconds: float) -> Run:
    """Another package's method with about so many seconds of processor time."""
    try:
        claim = RIVALS[run.method](target, run.seed, seconds)
    except NotInstalledError as error:
        return dataclasses.replace(run, status="absent", remark=f"no module of {error}")
    return dataclasses.replace(
        run, status="done", log_z=claim.log_z, lower=claim.lower, upper=claim.upper, remark=claim.remark
    )


class Counted:
    """A log density that counts the points at which it is evaluated."""

    def __init__(self, log_density: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.log_density, self.points = log_density, 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.points += x.shape[:-1].numel()
        return self.log_density(x)


def run_job(name: str, method: str, seed: int, particles: int, limit: float, seconds: float, out: Connection) -> None:
    """Run and send the outcome; whatever goes wrong is an outcome.

    Args:
        name: name of the target.
        method: the sandwich or a rival.
        seed: seed of the run.
        particles: particles per replicate of the sandwich.
        limit: processor seconds after which the system ends this process.
        seconds: processor seconds that a rival aims at.
        out: end of a pipe.
    """
    torch.set_num_threads(1)
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = math.ceil(used.ru_utime + used.ru_stime + limit)
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard + 2))
    target = known_target(name)
    run = blank_run(target, method, seed, particles)
    target.target.log_density = counted = Counted(target.target.log_density)
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run = run_sandwich(target, run) if method == OURS else run_rival(target, run, seconds)
        except Exception as error:  # an error is an outcome of the table
            run = dataclasses.replace(run, error=type(error).__name__, remark=str(error).replace("\n", " ")[:300])
    seconds = round(time.process_time() - started, 2)
    out.send(dataclasses.replace(run, seconds=seconds, evaluations=counted.points))
    out.close()
