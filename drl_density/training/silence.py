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
"""Root mean square of the inputs of a dead layer. A SiLU that is reached by -17 or less gives less."""

MOST_ROWS = 64
"""Rows on which inputs of layers are measured."""


def silence_record(state: TrainingState, rows: Tensor) -> Record:
    r"""Norm of the network's last gradient, and the quietest layer.

    .. math:: \lVert \nabla_\theta \mathcal L \rVert = \Big( \sum_i (\partial \mathcal L / \partial \theta_i)^2 \Big)^{1/2}
        \qquad \min_{\text{layers}} \big( \textstyle\mathrm{mean}\, h^2 \big)^{1/2}

    It costs one pass of 64 rows at an evaluation, and nothing in a step. Sharded weights are not looked at.

    Args:
        state: state after a gradient step.
        rows: clean rows ``(rows, *event)`` on any device.

    Returns:
        ``network_gradient`` and ``least_input``, NaN where they are not known; and ``dead_layers``, names with commas, only
        where a gradient that has vanished meets layers without input.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> from drl_density.training import new_state
    >>> model = EnergySequence(NoiseSchedule.log_spaced(2), MLP(MLPSettings(2, width=8)), (2,))
    >>> state = new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=0)
    >>> sorted(silence_record(state, torch.ones(4, 2)))
    ['least_input', 'network_gradient']
    """
    if state.is_sharded:
        return {"network_gradient": math.nan, "least_input": math.nan}
    gradients = [part.grad for part in state.model.network.parameters() if part.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else math.nan
    inputs = layer_inputs(state.model, rows[:MOST_ROWS])
    record = {"network_gradient": norm, "least_input": min(inputs.values(), default=math.nan)}
    dead = [name for name, value in inputs.items() if value < ZERO]
    return record | ({"dead_layers": ", ".join(dead)} if dead and norm < VANISHED else {})


@torch.no_grad()
def layer_inputs(model: EnergySequence, rows: Tensor) -> dict[str, float]:
    """Root mean square of the inputs of every linear layer and convolution of a network, for rows at level 0, by name.

    Args:
        model: sequence with the network.
        rows: clean rows ``(rows, *event)`` on any device.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(2), MLP(MLPSettings(2, width=8)), (2,))
    >>> min(layer_inputs(model, torch.ones(4, 2)).values()) > 0.01
    True
    """
    found: dict[str, float] = {}
    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, layer in model.network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):

            def note(_: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                found[name] = float(given[0].double().square().mean().sqrt())

            handles.append(layer.register_forward_pre_hook(note))
    is_training = model.training
    model.eval()
    try:
        model.log_density(rows.to(model.device), 0)
    finally:
        model.train(is_training)
        for handle in handles:
            handle.remove()
    return found
