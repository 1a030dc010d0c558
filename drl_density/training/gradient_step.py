"""One gradient step, on a whole batch or on its shards, in one process or several.

A batch of S shards consists of S independent draws of rows and noise, each from its own generator seeded by (run, step,
shard). The process that works on a shard therefore changes the gradient only by rounding: one process that accumulates the
gradients of all shards takes the same step as S processes with one shard each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from drl_density.devices import globally_seeded
from drl_density.execution import precision
from drl_density.mcmc import RobbinsMonro
from drl_density.networks import checkpointable_modules, frozen_power_iteration, settle_power_iteration
from drl_density.parallel.whole_tensors import gathered_weights
from drl_density.parallel.workers import Workers
from drl_density.training.objectives.objective import Batch, Batches, LevelStatistics, Objective, ObjectiveValue
from drl_density.training.settings import TrainingSettings
from drl_density.training.state import TrainingState

GAIN = 0.05
"""Gain of the step-size rule: averages over some twenty batches, and stays constant, so that step sizes follow the model."""


class GradientStep(NamedTuple):
    """What one gradient step saw.

    Attributes:
        value: value of the objective over the whole batch of all processes.
        norm: norm of the gradient before it was scaled down; weights are unchanged if it is not finite.
    """

    value: ObjectiveValue
    norm: float


def gradient_step(
    state: TrainingState,
    objective: Objective,
    batches: Batches,
    settings: TrainingSettings,
    workers: Workers,
) -> GradientStep:
    """Change weights, average and chain step sizes of a state in place."""
    state.set_rates(settings.rate(state.step))
    state.model.train()
    state.optimizer.zero_grad(set_to_none=True)
    is_one_shard = settings.num_shards == 1
    # Spectral norms iterate once per step, rather than per shard or again for a checkpoint, so that all passes agree.
    is_frozen = not is_one_shard or settings.is_checkpointed
    dtype = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
    # FSDP2 averages the gradients of sharded weights over processes, where the sum is wanted.
    factor = workers.count if state.is_sharded else 1
    values = []
    with gathered_weights(state.model):
        with (
            frozen_power_iteration(state.model) if is_frozen else contextlib.nullcontext(),
            precision(state.model, dtype),
        ):
            for generator in _shard_generators(state.generator, settings.num_shards, workers):
                x = _moved(batches(settings.batch_size // settings.num_shards, generator), state.model.device)
                value = _evaluated(state, objective, x, generator)
                (value.loss if is_one_shard else factor * value.loss / settings.num_shards).backward()
                values.append(value)
        if is_frozen:
            settle_power_iteration(state.model, num_iterations=1)
    value = values[0] if is_one_shard else _mean_over_shards(values, settings.num_shards, workers)
    if workers.count > 1 and not state.is_sharded:
        _add_up_gradients(state.model, workers)
    norm = state.clip_gradients(settings.max_gradient_norm)
    if bool(torch.isfinite(norm)):
        state.optimizer.step()
        state.average.update_parameters(state.model)
        if objective.kernel.is_adjusted:
            rule = RobbinsMonro(objective.kernel.target_acceptance, gain=GAIN)
            adapted = rule.update(rule.init(state.step_sizes), value.statistics.acceptance_rate.double())
            state.step_sizes = torch.as_tensor(rule.step_size(adapted))
    return GradientStep(value, float(norm))


def prepare_network(network: nn.Module, settings: TrainingSettings, *, backend: str = "inductor") -> None:
    """Bring a network into the form that the settings choose, in place; its weights and their names stay.

    Args:
        network: the network of the sequence.
        settings: of which memory format, compilation and checkpoints are read.
        backend: backend of ``torch.compile``.

    Raises:
        ValueError: checkpoints for a network that cannot recompute its activations.
    """
    if settings.is_channels_last:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # an overload torch leaves out
    if settings.is_checkpointed:
        able = checkpointable_modules(network)
        if not able:
            raise ValueError(f"{type(network).__name__} cannot checkpoint; train it with is_checkpointed=False")
        for module in able:
            module.is_checkpointed = True
    if settings.is_compiled:
        network.compile(backend=backend)


def _shard_generators(generator: torch.Generator, num_shards: int, workers: Workers) -> Iterator[torch.Generator]:
    """The run's own generator for a batch of one shard, else one seeded generator per shard of this process."""
    if num_shards == 1:
        yield generator
        return
    seeds = torch.randint(2**62, (num_shards,), generator=generator, device=generator.device).tolist()
    for shard in workers.own_shards(num_shards):
        yield torch.Generator(generator.device).manual_seed(seeds[shard])


def _evaluated(state: TrainingState, objective: Objective, x: Batch, generator: torch.Generator) -> ObjectiveValue:
    device = (x[0] if isinstance(x, tuple) else x).device
    with globally_seeded(generator, device):  # dropout draws from torch's global generator
        return objective(state.model, x, state.step_sizes, generator=generator)


def _moved(x: Batch, device: torch.device) -> Batch:
    return (x[0].to(device), x[1].to(device)) if isinstance(x, tuple) else x.to(device)


def _mean_over_shards(values: list[ObjectiveValue], num_shards: int, workers: Workers) -> ObjectiveValue:
    """Means over the shards of all processes, and per level over the shards that had rows there."""
    rows = torch.stack([value.statistics.stacked() for value in values])
    is_seen = ~rows.isnan()
    sums, counts = torch.where(is_seen, rows, 0.0).sum(0), is_seen.double().sum(0)
    names = list(values[0].parts)
    totals = torch.stack(
        [torch.stack([v.loss.detach().double(), *(v.parts[name].double() for name in names)]) for v in values]
    ).sum(0)
    workers.add_up(sums, counts, totals)
    loss, *parts = (totals / num_shards).unbind()
    return ObjectiveValue(loss, dict(zip(names, parts, strict=True)), LevelStatistics(*(sums / counts)))


def _add_up_gradients(model: nn.Module, workers: Workers) -> None:
    """Sum gradients over processes, as one flat vector per dtype."""
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for parameter in model.parameters():
        if parameter.grad is not None:
            by_dtype.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in by_dtype.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        workers.add_up(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
