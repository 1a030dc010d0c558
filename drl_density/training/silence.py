"""Networks that have died: a layer whose inputs are all zero, so that no gradient passes it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from drl_density.model import EnergySequence
from drl_density.training.state import Record, TrainingState

VANISHED = 1e-9
"""Norm below which the gradient of a network has vanished. Gradients of random batches stay far above it to the end."""

ZERO = 1e-6
"""Largest absolute input of a silent layer. A SiLU that is reached by -17 or less gives less."""

MOST_ROWS = 64
"""Rows on which inputs of layers are looked at."""


def gradient_record(state: TrainingState, rows: Tensor) -> Record:
    r"""Norm of the network's last gradient, and where it has vanished, the layers that are silent.

    .. math:: \lVert \nabla_\theta \mathcal L \rVert = \Big( \sum_i (\partial \mathcal L / \partial \theta_i)^2 \Big)^{1/2}

    It costs a norm at an evaluation, and nothing in a step. Sharded weights are not looked at.

    Args:
        state: state after a gradient step.
        rows: clean rows ``(rows, *event)`` on any device.

    Returns:
        ``network_gradient``, NaN where it is not known, and ``silent_layers``, names with commas, only where there are any.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> from drl_density.training import new_state
    >>> model = EnergySequence(NoiseSchedule.log_spaced(2), MLP(MLPSettings(2, width=8)), (2,))
    >>> state = new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=0)
    >>> gradient_record(state, torch.zeros(4, 2))
    {'network_gradient': nan}
    """
    gradients = [part.grad for part in state.model.network.parameters() if part.grad is not None]
    if state.is_sharded or not gradients:
        return {"network_gradient": math.nan}
    norm = float(torch.nn.utils.get_total_norm(gradients))
    if not norm < VANISHED:
        return {"network_gradient": norm}
    silent = silent_layers(state.model, rows[:MOST_ROWS])
    return {"network_gradient": norm} | ({"silent_layers": ", ".join(silent)} if silent else {})


@torch.no_grad()
def silent_layers(model: EnergySequence, rows: Tensor) -> list[str]:
    """Names of the layers of a network whose inputs are zero for all rows at level 0, in the order of the network.

    Args:
        model: sequence with the network.
        rows: clean rows ``(rows, *event)`` on any device.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(2), MLP(MLPSettings(2, width=8)), (2,))
    >>> silent_layers(model, torch.ones(4, 2))
    []
    """
    found: dict[str, bool] = {}

    def look(name: str) -> None:
        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            found[name] = found.get(name, True) and float(given[0].abs().max()) < ZERO

        layer = layers[name]
        handles.append(layer.register_forward_pre_hook(note))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    layers = {name: part for name, part in model.network.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    for name in layers:
        look(name)
    try:
        model.tilt(rows.to(model.device), 0)
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in layers if found.get(name, False)]
