"""Weights that are cut over the processes of a run by torch's FSDP2: each holds its share of all that is kept of them.

Between steps a process holds its part of the weights, moments, averages and kept states. A step gathers the weights once,
for all of its chain and learning passes, and lets them go at its end; on the way back gradients are summed and cut block
by block. What travels is what data parallelism sends: the weights once, their gradients once.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from drl_density.parallel.whole_tensors import whole_tensors
from drl_density.parallel.workers import communication
from drl_density.training.state import TrainingState


def shard_weights(state: TrainingState) -> None:
    """Cut the weights of a state, their averages, moments and kept copies over the processes, in place.

    Blocks (members of a ``ModuleList``) are units of their own. ``state.whole_model`` is left to be filled for evaluations.

    Args:
        state: the same in every process of the process group.
    """
    plain = copy.deepcopy(state.average.module)
    tensors, scalars = state.to_tensors()
    groups = _names_by_group(state)
    for model in (state.model, state.average.module):
        _cut(model)
    parameters = dict(state.model.named_parameters())
    _give(state.optimizer, [[parameters[name] for name in group] for group in groups])
    # Moments go by number; a parameter's own way of being cut serves all that has its shape.
    by_number = {str(number): parameters[name] for number, name in enumerate(sum(groups, []))}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        owner = by_number[rest.partition(".")[0]] if kind == "optimizer" else _owner(parameters, kind, rest)
        if owner is not None and owner.shape == tensor.shape:
            tensors[name] = _cut_as(owner, tensor)
    state.whole_model = plain
    state.load_tensors(tensors, scalars)


def join_weights(state: TrainingState) -> None:
    """Undo :func:`shard_weights`: every process holds the whole state again.

    Args:
        state: changed in place.
    """
    tensors, scalars = state.to_tensors()
    tensors, groups, model = whole_tensors(tensors), _names_by_group(state), state.whole_model
    parameters = dict(model.named_parameters())
    _give(state.optimizer, [[parameters[name] for name in group] for group in groups])
    state.model, state.average = model, AveragedModel(model, multi_avg_fn=state.average.multi_avg_fn, use_buffers=False)
    state.whole_model = None
    state.load_tensors(tensors, scalars)


def _cut(model: nn.Module) -> None:
    from torch.distributed import group  # not at the top: takes longer than all the rest of an import
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    parts = [part for part in model.children() if any(True for _ in part.parameters())]
    device = next(model.parameters()).device.type
    mesh = DeviceMesh.from_group(group.WORLD, device)
    lists = [module for part in parts for module in part.modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for blocks in lists for block in blocks if not isinstance(block, nn.ModuleList)]
    for part in [*blocks, *parts]:
        unit = fully_shard(part, mesh=mesh, reshard_after_forward=False)
        unit.set_reshard_after_backward(False, recurse=False)


def _names_by_group(state: TrainingState) -> list[list[str]]:
    names = {parameter: name for name, parameter in state.model.named_parameters()}
    return [[names[parameter] for parameter in group["params"]] for group in state.optimizer.param_groups]


def _owner(parameters: dict[str, Tensor], kind: str, name: str) -> Tensor | None:
    if kind == "average":
        name = name.removeprefix("module.")
    return parameters.get(name) if kind in ("model", "average", "best") else None


def _cut_as(owner: Any, tensor: Tensor) -> Tensor:
    from torch.distributed.tensor import distribute_tensor

    with communication():
        return distribute_tensor(tensor.to(owner.device), owner.device_mesh, owner.placements)


def _give(optimizer: torch.optim.Optimizer, groups: list[list[Tensor]]) -> None:
    """Other parameters for the optimiser's groups, without their moments."""
    optimizer.state.clear()
    for group, parameters in zip(optimizer.param_groups, groups, strict=True):
        group["params"] = parameters
