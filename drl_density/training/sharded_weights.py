"""Weights of a training state sharded over the processes of a run by torch's FSDP2.

Between steps a process holds its shard of the weights, moments, averages and kept states. A step gathers the weights once,
for all of its chain and learning passes, and frees them at its end; in the backward pass, gradients are summed and sharded
block by block. The traffic is that of data parallelism: the weights once and their gradients once.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from drl_density.model import EnergySequence
from drl_density.parallel.whole_tensors import ShardedTensor, is_sharded, whole_tensors
from drl_density.parallel.workers import communication
from drl_density.training.state import TrainingState


def shard_weights(state: TrainingState) -> None:
    """Shard the weights of a state, their averages, moments and kept copies over the processes, in place.

    Every block, a member of a ``ModuleList``, is gathered as one unit. ``state.whole_model`` receives a copy that
    evaluations fill with whole weights.

    Args:
        state: a state that is the same in every process of the process group.
    """
    plain = cast(EnergySequence, copy.deepcopy(state.average.module))
    tensors, scalars = state.to_tensors()
    groups = _names_by_group(state)
    for model in (state.model, state.average.module):
        _shard(model)
    parameters = dict(state.model.named_parameters())
    _set_parameters(state.optimizer, [[parameters[name] for name in group] for group in groups])
    # The optimiser numbers its parameters. A tensor with the shape of its parameter is sharded in the same way.
    by_number = {str(number): parameters[name] for number, name in enumerate(sum(groups, []))}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        owner = by_number[rest.partition(".")[0]] if kind == "optimizer" else _owner(parameters, kind, rest)
        if is_sharded(owner) and owner.shape == tensor.shape:
            tensors[name] = _shard_like(owner, tensor)
    state.whole_model = plain
    state.load_tensors(tensors, scalars)


def join_weights(state: TrainingState) -> None:
    """Undo :func:`shard_weights`, so that every process holds the whole state again; a whole state stays as it is.

    Args:
        state: changed in place; all processes must call this together.
    """
    model = state.whole_model
    if model is None:
        return
    tensors, scalars = state.to_tensors()
    tensors, groups = whole_tensors(tensors), _names_by_group(state)
    parameters = dict(model.named_parameters())
    _set_parameters(state.optimizer, [[parameters[name] for name in group] for group in groups])
    state.model, state.average = model, AveragedModel(model, multi_avg_fn=state.average.multi_avg_fn, use_buffers=False)
    state.whole_model = None
    state.load_tensors(tensors, scalars)


def _shard(model: nn.Module) -> None:
    """Apply FSDP2 to the children of a model and to the blocks in them."""
    # These take longer to import than all the rest of the package.
    from torch.distributed import group
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    assert group.WORLD is not None, "sharding needs an initialised process group"
    parts = [part for part in model.children() if any(True for _ in part.parameters())]
    device = next(model.parameters()).device.type
    mesh = DeviceMesh.from_group(group.WORLD, device)
    lists = [module for part in parts for module in part.modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for blocks in lists for block in blocks if not isinstance(block, nn.ModuleList)]
    for part in [*blocks, *parts]:
        unit = fully_shard(part, mesh=mesh, reshard_after_forward=False)
        unit.set_reshard_after_backward(False, recurse=False)


def _names_by_group(state: TrainingState) -> list[list[str]]:
    """Names of the parameters in each group of the optimiser."""
    names = {parameter: name for name, parameter in state.model.named_parameters()}
    return [[names[parameter] for parameter in group["params"]] for group in state.optimizer.param_groups]


def _owner(parameters: Mapping[str, Tensor], kind: str, name: str) -> Tensor | None:
    """The parameter of which a saved tensor is a copy or an average, or None."""
    if kind == "average":
        name = name.removeprefix("module.")
    return parameters.get(name) if kind in ("model", "average", "best") else None


def _shard_like(owner: ShardedTensor, tensor: Tensor) -> Tensor:
    from torch.distributed.tensor import distribute_tensor  # slow to import

    with communication():
        return distribute_tensor(tensor.to(owner.device), owner.device_mesh, owner.placements)


def _set_parameters(optimizer: torch.optim.Optimizer, groups: list[list[Tensor]]) -> None:
    """Replace the parameters in the optimiser's groups and forget their moments."""
    optimizer.state.clear()
    for group, parameters in zip(optimizer.param_groups, groups, strict=True):
        group["params"] = parameters
