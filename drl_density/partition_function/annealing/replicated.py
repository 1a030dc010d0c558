"""Annealing replicate by replicate: spread over processes and resumable, always with the same bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.errors import RunFolderError
from drl_density.parallel import Workers
from drl_density.partition_function.annealing.path import AnnealingPath
from drl_density.partition_function.annealing.plan import AISPlan, plan_annealing
from drl_density.partition_function.annealing.run import anneal
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.records.given import given_or_default
from drl_density.run_folder import FolderLock, RunFolder
from drl_density.weights import LogPartitionEstimate, PathSummary, combine_replicates, judge_estimate, log_mean_exp


@outside_inference_mode
def replicated_annealing(
    path: AnnealingPath,
    *,
    seed: int,
    settings: AISSettings | None = None,
    folder: str | Path | None = None,
    on_replicate: Callable[[str], None] | None = None,
) -> LogPartitionEstimate:
    """Annealed importance sampling with one generator per replicate, seeded by the seed and the replicate's number.

    Under ``torchrun`` each process takes every world-size-th replicate and all of them return the whole estimate. With a
    folder every finished replicate is saved, and a run that was killed resumes there. Neither changes a bit of the log
    weights.

    Args:
        path: result of :func:`sequence_path` or :func:`geometric_path`.
        folder: where finished replicates are kept; it may hold an unfinished run with the same settings and seed.
        on_replicate: called with a line "log Z = a +- b, ESS c" after each replicate of this process.

    Raises:
        RunFolderError: a folder of another run, or one that another process writes to.
        NumericalError: every particle of a replicate lost its weight.
        ValueError: a single replicate, which shows no error.

    >>> import pyro.distributions as dist
    >>> from drl_density.partition_function import geometric_path
    >>> path = geometric_path(dist.Normal(0.0, 2.0).expand((2,)).to_event(1), lambda x: -(x**2).sum(-1), num_bridges=8)
    >>> small = AISSettings(num_particles=32, num_replicates=2)
    >>> first, second = (replicated_annealing(path, seed=0, settings=small).log_z for _ in range(2))
    >>> first == second
    True
    """
    settings = given_or_default(settings, AISSettings)
    settings.check_error()
    plan = plan_annealing(path, settings, generator=torch.Generator().manual_seed(seed))
    workers = Workers.current()
    with ExitStack() as stack:
        store = None if folder is None else _open(folder, settings, seed, workers, stack)
        workers.wait()
        own = _own_replicates(path, plan, settings, seed, store, workers, on_replicate)
        parts = workers.gather_tensors({str(replicate): rows for replicate, rows in own.items()})
    weights = {name: rows for part in parts for name, rows in part.items()}
    log_weights = torch.stack([weights[str(replicate)] for replicate in range(settings.num_replicates)])
    return judge_estimate(log_weights, bias="lower", path=PathSummary(num_densities=len(path.log_densities)))


def _own_replicates(
    path: AnnealingPath,
    plan: AISPlan,
    settings: AISSettings,
    seed: int,
    store: RunFolder | None,
    workers: Workers,
    on_replicate: Callable[[str], None] | None,
) -> dict[int, Tensor]:
    """Log weights of the replicates of this process, by number; saved ones are read."""
    one = dataclasses.replace(settings, num_replicates=1, num_kept=0)
    own: dict[int, Tensor] = {}
    for replicate in range(workers.rank, settings.num_replicates, workers.count):
        name = f"replicate_{replicate:04d}.safetensors"
        if store is not None and (store.path / name).is_file():
            own[replicate] = store.read_tensors(name)[0]["log_weights"]
        else:
            generator = torch.Generator().manual_seed(seed + 104_729 * (replicate + 1))
            own[replicate] = anneal(path, plan, one, generator=generator).log_weights[0]
            if store is not None:
                store.write_tensors(name, {"log_weights": own[replicate]})
        if on_replicate is not None:
            on_replicate(_line(list(own.values())))
    return own


def _open(folder: str | Path, settings: AISSettings, seed: int, workers: Workers, stack: ExitStack) -> RunFolder:
    """The folder of the run, which the first process keeps locked for all of them until ``stack`` is left."""
    wanted = {"seed": seed, "settings": repr(settings)}
    if not workers.is_first:
        return RunFolder(folder)
    store = RunFolder.open(folder) if RunFolder(folder).settings.is_file() else RunFolder.create(folder)
    stack.enter_context(FolderLock(folder))
    if not store.settings.is_file():
        store.write_json(store.settings, {"stage": "annealing", **wanted})
        return store
    found = store.read_json(store.settings)
    different = [name for name, value in wanted.items() if found.get(name) != value]
    if different:
        raise RunFolderError(
            f"{folder} holds an annealing run with another {', '.join(different)}; give another folder, or the same "
            f"{', '.join(f'{name}={found.get(name)}' for name in different)}"
        )
    return store


def _line(weights: list[Tensor]) -> str:
    rows = torch.stack(weights)
    by_replicate = log_mean_exp(rows, 1)
    value, error = combine_replicates(by_replicate) if len(rows) > 1 else (float(by_replicate[0]), float("nan"))
    ess = torch.softmax(rows, 1).square().sum(1).reciprocal().mean()
    return f"log Z = {value:.4f} +- {error:.4f}, ESS {float(ess):.0f} of {rows.shape[1]}"
