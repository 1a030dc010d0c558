"""Tensors that are sharded over processes: the local part of each, and the whole."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn

from drl_density.errors import WorkerLost
from drl_density.parallel.workers import Workers, communication


class ShardedTensor(Protocol):
    """The part of ``torch.distributed.tensor.DTensor`` used here; importing that module takes half a second."""

    shape: torch.Size
    device: torch.device
    device_mesh: Any
    placements: Any

    def full_tensor(self) -> Tensor:
        """Gather the whole tensor in every process."""
        ...

    def to_local(self) -> Tensor:
        """Return the part held by this process."""
        ...


def is_sharded(tensor: object) -> TypeGuard[ShardedTensor]:
    """Whether a tensor is sharded over processes."""
    return hasattr(tensor, "full_tensor")


def local_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: its shard, or all of an unsharded tensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor, in every process. All processes must call this together.

    Args:
        tensor: sharded over the processes, or not.

    Raises:
        WorkerLost: another process is gone.
    """
    if not is_sharded(tensor):
        return tensor
    with communication():
        return tensor.full_tensor()


def whole_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The whole of each tensor, in every process. All processes must call this together.

    Args:
        tensors: by name, each sharded over the processes or not.

    Raises:
        WorkerLost: another process is gone.
    """
    return {name: whole(tensor) for name, tensor in tensors.items()}


def whole_tensors_of_first(tensors: Mapping[str, Tensor], workers: Workers) -> dict[str, Tensor]:
    """The whole of each tensor in the first process, and an empty dictionary in the others.

    Sharded tensors are gathered one at a time and moved to main memory, so that no device holds all of them.
    All processes must call this together.

    Args:
        tensors: by name, each sharded over the processes or not.
        workers: all processes of the run.

    Raises:
        WorkerLost: another process is gone.
    """
    found = {}
    for name, tensor in tensors.items():
        gathered = whole(tensor)
        if workers.is_first:
            found[name] = gathered.cpu() if is_sharded(tensor) else tensor
    return found


@contextmanager
def gathered_weights(model: nn.Module) -> Iterator[None]:
    """Within this context, every process holds the whole of a model's sharded weights; unsharded weights are left alone.

    Args:
        model: the same in all processes, which must enter together.

    Raises:
        WorkerLost: another process is gone, now or in a backward pass within the context.
    """
    units: list[Any] = [module for module in model.modules() if hasattr(module, "unshard")]
    if not units:
        yield
        return
    with communication():
        for unit in units:
            unit.unshard()
    try:
        with warnings.catch_warnings():
            # FSDP2 warns because writing into a returned view would break its bookkeeping; nothing here writes into one.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
            yield
    except RuntimeError as error:
        # Gradients are exchanged in backward passes, whose other errors must keep their own type.
        if re.search("gloo|nccl|connection", str(error), re.IGNORECASE) and not isinstance(error, WorkerLost):
            with communication():
                raise
        raise
    for unit in units:
        unit.reshard()
