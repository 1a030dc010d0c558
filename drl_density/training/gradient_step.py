"""One gradient step, on one batch or on its shards, in one process or several.

A batch of S shards is S independent draws of rows and noise, each from a generator seeded by (run, step, shard). Which
process works on which shard then changes the gradient by rounding alone: one process that accumulates the gradients of all
shards, and S processes with one each, take the same step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from drl_density.devices import globally_seeded
from drl_density.execution import precision
from drl_density.mcmc import RobbinsMonro
from drl_density.networks import checkpointable_modules, frozen_power_iteration, settle_power_iteration
from drl_density.parallel.whole_tensors import gathered_weights
from drl_density.parallel.workers import Workers
from drl_density.training.objectives import Batches, LevelStatistics, Objective, ObjectiveValue
from drl_density.training.settings import TrainingSettings
from drl_density.training.state import TrainingState


def gradient_step(
    state: TrainingState,
    objective: Objective,
    batches: Batches,
    settings: TrainingSettings,
    workers: Workers,
) -> tuple[ObjectiveValue, float]:
    """Change weights, average and step sizes in place: (value over the whole batch, gradient norm before scaling)."""
    state.set_rates(settings.rate(state.step))
    state.model.train()
    state.optimizer.zero_grad(set_to_none=True)
    values, is_whole = [], settings.num_shards == 1
    # Spectral norms iterate once per step, not once per shard nor again for a checkpoint: every pass sees the same weights.
    stands_still = not is_whole or settings.is_checkpointed
    dtype = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
    # Weights that are cut over processes add up their gradients on the way back, and divide them by the number of processes.
    is_cut = state.whole_model is not None
    share = workers.count if is_cut else 1
    with gathered_weights(state.model):
        with (
            frozen_power_iteration(state.model) if stands_still else contextlib.nullcontext(),
            precision(state.model, dtype),
        ):
            for generator in _shard_generators(state.generator, settings.num_shards, workers):
                x = _moved(batches(settings.batch_size // settings.num_shards, generator), state.model.device)
                value = _value(state, objective, x, generator)
                (value.loss if is_whole else share * value.loss / settings.num_shards).backward()
                values.append(value)
        if stands_still:
            settle_power_iteration(state.model, num_iterations=1)
    value = values[0] if is_whole else _joined(values, settings.num_shards, workers)
    if workers.count > 1 and not is_cut:
        _add_up_gradients(state.model, workers)
    norm = state.clip_gradients(settings.max_gradient_norm)
    if bool(torch.isfinite(norm)):
        state.optimizer.step()
        state.average.update_parameters(state.model)
        if objective.kernel.is_adjusted:
            # A gain of 0.05 averages over some twenty batches; as it stays constant, step sizes follow the changing model.
            rule = RobbinsMonro(objective.kernel.target_acceptance, gain=0.05)
            updated = rule.update(rule.init(state.step_sizes), value.statistics.acceptance_rate.double())
            state.step_sizes = torch.as_tensor(rule.step_size(updated))
    return value, float(norm)


def prepare_network(network: torch.nn.Module, settings: TrainingSettings, *, backend: str = "inductor") -> None:
    """Bring a network into the form that the settings ask for, in place; its weights and their names stay.

    Raises:
        ValueError: checkpoints asked of a network that has none.
    """
    if settings.is_channels_last:
        network.to(memory_format=torch.channels_last)
    if settings.is_checkpointed:
        able = checkpointable_modules(network)
        if not able:
            raise ValueError(f"{type(network).__name__} cannot checkpoint; train it with is_checkpointed=False")
        for module in able:
            module.is_checkpointed = True
    if settings.is_compiled:
        network.compile(backend=backend)


def _shard_generators(generator: torch.Generator, num_shards: int, workers: Workers) -> Iterator[torch.Generator]:
    """The run's own generator for a batch in one piece, else one seeded generator per shard of this process."""
    own = workers.own_shards(num_shards)
    if num_shards == 1:
        yield generator
        return
    seeds = torch.randint(2**62, (num_shards,), generator=generator, device=generator.device).tolist()
    for shard in own:
        yield torch.Generator(generator.device).manual_seed(seeds[shard])


def _value(
    state: TrainingState, objective: Objective, x: Tensor | tuple[Tensor, Tensor], generator: torch.Generator
) -> ObjectiveValue:
    device = (x[0] if isinstance(x, tuple) else x).device
    with globally_seeded(generator, device):  # dropout
        return objective(state.model, x, state.step_sizes, generator=generator)


def _moved(x: Tensor | tuple[Tensor, Tensor], device: torch.device) -> Tensor | tuple[Tensor, Tensor]:
    return tuple(part.to(device) for part in x) if isinstance(x, tuple) else x.to(device)


def _joined(values: list[ObjectiveValue], num_shards: int, workers: Workers) -> ObjectiveValue:
    """Means over the shards of all processes; per level over the shards that had rows there."""
    rows = torch.stack(
        [
            torch.stack([v.statistics.energy_gap, v.statistics.acceptance_rate, v.statistics.relative_jump])
            for v in values
        ]
    ).double()
    seen = ~rows.isnan()
    sums, counts = torch.where(seen, rows, 0.0).sum(0), seen.double().sum(0)
    names = list(values[0].parts)
    totals = torch.stack(
        [torch.stack([v.loss.detach().double(), *(v.parts[name].double() for name in names)]) for v in values]
    ).sum(0)
    workers.add_up(sums, counts, totals)
    loss, *parts = (totals / num_shards).unbind()
    return ObjectiveValue(loss, dict(zip(names, parts, strict=True)), LevelStatistics(*(sums / counts)))


def _add_up_gradients(model: torch.nn.Module, workers: Workers) -> None:
    """Sum gradients over processes as one flat vector per dtype."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    by_dtype: dict[Any, list[Tensor]] = {}
    for gradient in gradients:
        by_dtype.setdefault(gradient.dtype, []).append(gradient)
    for group in by_dtype.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in group])
        workers.add_up(flat)
        for gradient, part in zip(group, flat.split([g.numel() for g in group]), strict=True):
            gradient.copy_(part.view_as(gradient))
