"""What two processes exchange, for the tests; every pickle function raises meanwhile.

python -m tests.parallel.gather_run FOLDER
"""

import json
import pickle
import sys
from pathlib import Path

import pyro.distributions as dist
import torch
from torch.distributed import all_gather_object, distributed_c10d

import drl_density as drl
from drl_density.parallel import Workers, joined_workers
from drl_density.partition_function import replicated_annealing
from tests.training import two_mode_run


class Pickled(Exception):
    """Something was pickled."""


def refuse(*_, **__):
    """Stand in for the functions of ``pickle``, and for the making of its objects."""
    raise Pickled


def forbid_pickle():
    """Let every use of pickle raise; torch.distributed keeps names of its own for the classes."""
    for name in ("dump", "dumps", "load", "loads"):
        setattr(pickle, name, refuse)
    for name in ("Pickler", "Unpickler"):
        refusing = type(name, (getattr(pickle, name),), {"__init__": refuse})
        setattr(pickle, name, refusing)
        setattr(distributed_c10d, f"_{name.lower()}", refusing)


def own_values(rank):
    """Plain values and tensors of one process; no two processes hold the same names, shapes or number of them."""
    values = {"rank": rank, "text": "ä" * (1 + 3 * rank)}
    tensors = {"both": torch.full((2, rank), 0.5 + rank)} | {f"own_{rank}": torch.arange(rank + 1)}
    return values, tensors


def annealed():
    """Log weights of five replicates, which two processes cannot share out evenly."""
    base = dist.Normal(torch.zeros(3), 1.5).to_event(1)
    path = drl.geometric_path(base, lambda x: -0.5 * (x**2).sum(-1) / 0.25 + 2.0, num_bridges=8)
    settings = drl.AISSettings(num_particles=16, num_replicates=5, num_pilot_particles=16)
    return replicated_annealing(path, seed=7, settings=settings).log_weights


def trained(folder):
    """First weights of a short run that saves its state."""
    state = two_mode_run.run(folder, settings=two_mode_run.short(has_sharded_weights=True))
    return next(iter(state.model.parameters())).detach()


def main():
    """Exchange, and write what this process got."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    with joined_workers() as workers:
        forbid_pickle()
        is_caught = False
        try:
            all_gather_object([None] * workers.count, workers.rank)
        except Pickled:
            is_caught = True
        values, tensors = own_values(workers.rank)
        gathered = workers.gather_tensors(tensors)
        found = {
            "is_caught": is_caught,
            "values": workers.gather(values),
            "last": workers.broadcast(values, source=1),
            "tensors": [{name: part.tolist() for name, part in parts.items()} for parts in gathered],
            "dtypes": [{name: str(part.dtype) for name, part in parts.items()} for parts in gathered],
            "annealed": annealed().tolist(),
            "trained": trained(folder / "run").tolist(),
        }
        (folder / f"{Workers.current().rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
