"""The processes of one run: which shards each works on, and what they exchange.

Plain values travel as JSON and tensors as their own bytes. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from drl_density.errors import NumericalError, WorkerLost


@dataclass(frozen=True)
class Workers:
    """This process among the processes of the run.

    Attributes:
        rank: number of this process, counted from 0; the first evaluates, saves and decides.
        count: number of processes in the run.

    >>> Workers(rank=1, count=2).own_shards(4), Workers().is_first
    (range(2, 4), True)
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Workers:
        """The processes of the initialised process group, or this process alone."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this process evaluates, saves and decides."""
        return self.rank == 0

    def own_shards(self, num_shards: int) -> range:
        """The shards of a batch that this process works on: a contiguous block; block sizes differ by at most one.

        Args:
            num_shards: number of shards in the whole batch.

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
            tensors: changed in place; of the same shapes in every process.

        Raises:
            WorkerLost: another process is gone.
        """
        if self.count > 1:
            with communication():
                for tensor in tensors:
                    distributed.all_reduce(tensor)

    def broadcast(self, values: Any, *, source: int = 0) -> Any:
        """Plain values of one process, in every process; the values that other processes pass are ignored.

        Args:
            values: anything that JSON can hold.
            source: rank of the process that sends, by default the first.

        Raises:
            WorkerLost: another process is gone.
        """
        if self.count == 1:
            return values
        text = json.dumps(values).encode() if self.rank == source else b""
        with communication():
            size = torch.tensor([len(text)])
            distributed.broadcast(size, source)
            sent = torch.zeros(int(size), dtype=torch.uint8)
            if self.rank == source:
                sent = torch.frombuffer(bytearray(text), dtype=torch.uint8)
            distributed.broadcast(sent, source)
        return json.loads(bytes(sent.tolist()))

    def broadcast_tensors(self, tensors: dict[str, Tensor], *, source: int = 0) -> dict[str, Tensor]:
        """Tensors of one process, in every process; other processes may hold other names and shapes, or none.

        With several processes the result is in main memory.

        Args:
            tensors: by name, on any device.
            source: rank of the process that sends, by default the first.

        Raises:
            WorkerLost: another process is gone.
        """
        if self.count == 1:
            return tensors
        kinds = {
            name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")] for name, tensor in tensors.items()
        }
        result = {}
        for name, (shape, dtype) in self.broadcast(kinds, source=source).items():
            tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            if self.rank == source:
                tensor = tensors[name].cpu().contiguous()
            with communication():
                distributed.broadcast(tensor, source)
            result[name] = tensor
        return result

    def gather(self, values: Any) -> list[Any]:
        """Plain values of all processes in the order of their ranks, in every process.

        Args:
            values: anything that JSON can hold.

        Raises:
            WorkerLost: another process is gone.
        """
        return [self.broadcast(values, source=rank) for rank in range(self.count)]

    def gather_tensors(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Tensors of all processes in the order of their ranks, in every process.

        With several processes the result is in main memory.

        Args:
            tensors: by name; names, shapes and their number may differ between processes.

        Raises:
            WorkerLost: another process is gone.
        """
        return [self.broadcast_tensors(tensors, source=rank) for rank in range(self.count)]

    def check_agreement(self, tensors: Iterable[Tensor], *, step: int) -> None:
        """Check that the processes hold bitwise the same weights, by comparing their sums.

        Args:
            tensors: weights of which every process holds a whole copy.
            step: number of the step, for the message.

        Raises:
            NumericalError: the copies have drifted apart.
            WorkerLost: another process is gone.
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
        """Wait until all processes have reached this point.

        Raises:
            WorkerLost: another process is gone.
        """
        if self.count > 1:
            with communication():
                distributed.barrier()


@contextlib.contextmanager
def joined_workers(*, timeout_minutes: float = 30.0) -> Iterator[Workers]:
    """Join the processes started by ``torchrun`` for the duration of a ``with`` block; without it, this process works alone.

    CPU tensors travel by gloo, tensors on CUDA devices by NCCL. Each process uses the CUDA device of its local rank.

    Args:
        timeout_minutes: how long to wait for a process that hangs; a process that died is noticed at once.
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
    # torch.distributed does export these, though not in a way that its type information shows.
    store: distributed.Store = distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        address, port, count, is_host, timeout
    )
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # On one node torchrun keeps its store over restarts, and with it the addresses of processes that are gone.
        store = distributed.PrefixStore(  # pyright: ignore[reportPrivateImportUsage]
            f"start_{num_restarts()}", store
        )
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
    try:
        yield Workers.current()
    finally:
        distributed.destroy_process_group()


def launch_name() -> str:
    """Name of the command that started this process, the same after a restart by ``torchrun``.

    >>> launch_name() == launch_name()
    True
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return f"{socket.gethostname()}:{os.getpid()}"
    name = os.environ["TORCHELASTIC_RUN_ID"]
    return name if name != "none" else f"{socket.gethostname()}:{os.getppid()}"


def num_restarts() -> int:
    """How many times ``torchrun --max-restarts`` has restarted these processes, 0 at first."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


@contextlib.contextmanager
def communication() -> Iterator[None]:
    """Within this context, communication errors are raised as :class:`~drl_density.errors.WorkerLost`."""
    try:
        yield
    except RuntimeError as error:
        raise WorkerLost(
            f"another process of this run has stopped or does not answer ({str(error).splitlines()[0]}). The last saved "
            "state is complete: start the same command again, on any number of processes, and the run resumes from there "
            "(torchrun --max-restarts N does so by itself)"
        ) from error
