"""The processes of one data-parallel run: who does what, and the few words they exchange.

Every process holds the whole state, unless :mod:`drl_density.training.sharded_weights` cuts it. What they exchange are sums
of gradients and statistics, the first process's records, and once at the start its state. Nothing is pickled, on disk or on
the wire.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from drl_density.errors import NumericalError, WorkerLost


@dataclass(frozen=True)
class Workers:
    """This process among those of the run.

    Attributes:
        rank: of this process; process 0 evaluates, saves and decides.
        count: world size.

    >>> Workers(rank=1, count=2).own(4), Workers().is_first
    (range(2, 4), True)
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Workers:
        """Those of the initialised process group, or this process alone."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this process evaluates, saves and decides."""
        return self.rank == 0

    def own(self, num_shards: int) -> range:
        """The shards of a batch that this process works on: a contiguous block, block sizes differ by one at most.

        Args:
            num_shards: of a batch.

        Raises:
            ValueError: fewer shards than processes.
        """
        if num_shards < self.count:
            raise ValueError(
                f"{self.count} processes need at least as many shards of the batch, got num_shards={num_shards}; set "
                f"num_shards to {self.count} or a multiple of it"
            )
        return range(num_shards * self.rank // self.count, num_shards * (self.rank + 1) // self.count)

    def add_up(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes; all processes get the same bits.

        Args:
            tensors: changed in place.
        """
        if self.count > 1:
            with said_when_lost():
                for tensor in tensors:
                    distributed.all_reduce(tensor)

    def share(self, values: Any) -> Any:
        """Plain values of the first process, in every process; what the others pass plays no part.

        Args:
            values: what JSON can hold.
        """
        if self.count == 1:
            return values
        text = json.dumps(values).encode() if self.is_first else b""
        with said_when_lost():
            size = torch.tensor([len(text)])
            distributed.broadcast(size, 0)
            sent = torch.zeros(int(size), dtype=torch.uint8)
            if self.is_first:
                sent = torch.frombuffer(bytearray(text), dtype=torch.uint8)
            distributed.broadcast(sent, 0)
        return json.loads(bytes(sent.tolist()))

    def share_tensors(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the first process in every process, whatever names and shapes the others have.

        Args:
            tensors: by name.
        """
        if self.count == 1:
            return tensors
        kinds = self.share({name: [list(t.shape), str(t.dtype)[6:]] for name, t in tensors.items()})
        result = {}
        for name, (shape, dtype) in kinds.items():
            tensor = tensors[name].cpu() if self.is_first else torch.empty(shape, dtype=getattr(torch, dtype))
            with said_when_lost():
                distributed.broadcast(tensor, 0)
            result[name] = tensor
        return result

    def check_agreement(self, tensors: Iterable[Tensor], *, step: int) -> None:
        """Compare the sum of weights that every process holds over processes, to the bit.

        Args:
            tensors: those weights.
            step: for the message.

        Raises:
            NumericalError: if they drifted apart.
        """
        if self.count == 1:
            return
        sums = torch.zeros(self.count, dtype=torch.float64)
        sums[self.rank] = sum(float(tensor.detach().double().sum()) for tensor in tensors)
        self.add_up(sums)
        if not bool((sums == sums[0]).all()):
            raise NumericalError(
                f"at step {step} the processes hold different weights (sums {sums.tolist()}): their machines compute "
                "differently; run on machines of one kind"
            )

    def wait(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            with said_when_lost():
                distributed.barrier()


@contextlib.contextmanager
def joined_workers(*, timeout_minutes: float = 30.0) -> Iterator[Workers]:
    """Join the processes that ``torchrun`` started, for the time of a ``with`` block; alone without ``torchrun``.

    Tensors on the CPU travel by gloo, those on CUDA devices by NCCL. Each process takes the CUDA device of its local rank.

    Args:
        timeout_minutes: how long a process waits for one that hangs; one that died is noticed at once.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Workers()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        backend = "cpu:gloo,cuda:nccl"
    timeout, rank, count = timedelta(minutes=timeout_minutes), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    is_host = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store: distributed.Store = distributed.TCPStore(address, port, count, is_host, timeout)
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # On one node torchrun keeps its store over restarts, and with it the addresses of processes that are gone.
        store = distributed.PrefixStore(f"start_{num_restarts()}", store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
    try:
        yield Workers.current()
    finally:
        distributed.destroy_process_group()


def num_restarts() -> int:
    """How often ``torchrun --max-restarts`` has started these processes anew, 0 at first."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


@contextlib.contextmanager
def said_when_lost() -> Iterator[None]:
    """Inside, an error of what travels between processes is told as :class:`~drl_density.errors.WorkerLost`."""
    try:
        yield
    except RuntimeError as error:
        raise WorkerLost(
            f"another process of this run is gone or does not answer ({str(error).splitlines()[0]}). The last saved state "
            "is whole: start the same command again, on any number of processes, and the run goes on from there "
            "(torchrun --max-restarts N does so by itself)"
        ) from error
