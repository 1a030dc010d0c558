"""Estimates of the memory and time that a fit will need, made before it trains."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drl_density.density.data_units import freeze
from drl_density.density.fitting.build import ImageNetworks
from drl_density.density.fitting.plan import FitPlan
from drl_density.density.fitting.selection import training_score
from drl_density.density.fitting.stages import Clock, more_minutes
from drl_density.density.fitting.stages.paths import log_z_gradients, with_meter
from drl_density.devices import available_memory
from drl_density.errors import DataError, DRLDensityWarning
from drl_density.networks import checkpointable_modules
from drl_density.partition_function import AISSettings
from drl_density.partition_function.importance import (
    LEAST_EVEN_EFFICIENCY,
    NUM_BRIDGES,
    NUM_CHECKS,
    base_draws,
    proposals_per_draw,
    tilts,
)
from drl_density.training import PathMatching, TrainingHooks, TrainingSettings, train

COPIES = 16
"""Copies of the weights while training: weights, gradient, two moments, average, best, a good state of five, its double."""

SAVED = 5
"""Unsharded copies that the saving process holds when weights are sharded: those of a saved state."""

NARROW, ROWS = 8, 2
"""Channels and images on which activations are counted."""

TIMED_STEPS = 12
"""Training steps whose median time is the forecast of one step, in each half of them; the first few warm caches up."""

FEW_DRAWS = 2048
"""Draws of the base in the score that is timed; the time of the others follows from that of the network."""

SAFETY = 0.9
"""Share of the allowed time that training steps may take by the forecast, which is noisy by about a tenth."""

FEWER_THREADS = "Beside other busy processes a step on one thread is often several times faster: set OMP_NUM_THREADS=1"
"""Advice where time lacks: threads that share their cores wait for each other at the end of every parallel operation."""

FEWEST_TIMED, FEWEST_SCORED, LONG_ENOUGH = 32, 512, 0.1
"""Rows of the first call that is timed, of images and of tables (a blend of flows is as slow for few draws as for hundreds),
and seconds of a call from which more rows would not time it better."""

FINISHING_SAFETY, PATH_SAFETY = 1.4, 1.15
"""Measured time of choosing, normalising and drawing over the count of their gradients; that of paths is close."""


@dataclass(frozen=True)
class Footprint:
    """Size of a training run over images.

    Attributes:
        num_parameters: Parameters of the energy and the initialiser.
        weight_bytes: Weights together with their gradients, moments, averages and kept states.
        activation_bytes: What one gradient step keeps for its backward pass over one shard of the batch.
        available_bytes: Memory available now, or None where the system does not report it.
        seconds_per_step: Estimate from timed gradients of a narrower network on this machine.
        num_steps: Gradient steps of the fit.
    """

    num_parameters: int
    weight_bytes: int
    activation_bytes: int
    available_bytes: int | None
    seconds_per_step: float
    num_steps: int

    @property
    def total_bytes(self) -> int:
        """Weights and activations."""
        return self.weight_bytes + self.activation_bytes

    @property
    def fits(self) -> bool:
        """False when the run needs more memory than is available."""
        return self.available_bytes is None or self.total_bytes <= self.available_bytes

    def describe(self) -> str:
        """Two lines about memory and time."""
        available = "unknown" if self.available_bytes is None else _size(self.available_bytes)
        hours = self.seconds_per_step * self.num_steps / 3600
        return (
            f"{self.num_parameters:,} parameters; memory about {_size(self.total_bytes)} (weights and their copies "
            f"{_size(self.weight_bytes)}, activations {_size(self.activation_bytes)}), available {available}\n"
            f"time about {self.seconds_per_step:.2g} s a step on this machine, {hours:.3g} h for {self.num_steps:,} steps "
            "(a rough estimate; the progress bar shows the measured speed)"
            + (f". {FEWER_THREADS}" if torch.get_num_threads() > 1 else "")
        )


def footprint(plan: FitPlan) -> Footprint:
    """The memory and time that a fit over images will need.

    Activations are counted on narrow networks, to whose width they are proportional. The time is that of gradients of a
    somewhat wider network, times the square of the ratio of widths, the batch, and the passes of a step.

    Args:
        plan: Plan of a fit with networks over images.

    Raises:
        DataError: A plan with networks over tables, which are small.
    """
    networks, training, cost = plan.networks, plan.training, plan.cost
    if not isinstance(networks, ImageNetworks):
        raise DataError("only fits over images have an estimate of memory; networks over tables are small")
    schedule, num_channels = plan.schedule, networks.energy.num_channels
    built = networks.build(schedule, generator=None)
    num_parameters = sum(part.numel() for network in built if network is not None for part in network.parameters())
    narrow = networks.thin(NARROW)
    energy, initializer = narrow.build(schedule, generator=torch.Generator().manual_seed(0))
    # The backward pass of a gradient keeps its way back too, and checkpoints spare it nothing.
    is_twice = cost.is_twice_differentiated
    kept = _bytes_per_row(energy, networks.shape, is_checkpointed=training.is_checkpointed and not is_twice)
    kept *= max(2, cost.classified_rows) * num_channels / narrow.energy.num_channels * (2 if is_twice else 1)
    if initializer is not None and networks.initializer is not None and narrow.initializer is not None:
        ratio = networks.initializer.num_channels / narrow.initializer.num_channels
        kept += ratio * _bytes_per_row(initializer, networks.shape)
    wider = networks.thin(32)
    timed = wider.build(schedule, generator=torch.Generator().manual_seed(0)).energy.eval().requires_grad_(False)
    per_row = _seconds_per_row(timed, networks.shape, training.batch_size // training.num_shards)
    per_row *= (num_channels / wider.energy.num_channels) ** 2
    # A step: the gradients of its chains, then forward and backward on both ends.
    passes = cost.chain_gradients + 3 + 1.5 * cost.classified_rows
    return Footprint(
        num_parameters=num_parameters,
        weight_bytes=int(4 * num_parameters * _copies(training, plan.device)),
        activation_bytes=int(kept * training.batch_size / training.num_shards),
        available_bytes=available_memory(plan.device),
        seconds_per_step=per_row * training.batch_size * passes,
        num_steps=training.num_steps,
    )


def _seconds_per_row(network: nn.Module, shape: tuple[int, int, int], most: int) -> float:
    """Seconds of a gradient per image, in a batch as large as a quick call allows, at most ``most`` images."""
    rows = torch.zeros(most, *shape)

    def work(count: int) -> None:
        x = rows[:count].requires_grad_()
        torch.autograd.grad(network(x, torch.zeros(())).sum(), x)

    work(1)  # what only the first call has to set up
    return _seconds_per_row_of(work, Clock(), most=most, least=ROWS)


def _copies(training: TrainingSettings, device: torch.device) -> float:
    """Copies of the weights in the memory of the process that holds most of them."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if not training.has_sharded_weights or count == 1:
        return COPIES
    saved = 0 if device.type == "cuda" else SAVED
    # Unsharded are the weights during a step, and the averaged ones, which are evaluated.
    return 2 + (COPIES - 1) / count + saved


def _bytes_per_row(network: nn.Module, shape: tuple[int, int, int], *, is_checkpointed: bool = False) -> float:
    """What a forward pass keeps for its backward pass, for one image.

    With checkpoints it keeps the inputs of the blocks, and the inside of the largest block.
    """
    inside: dict[int, dict[int, int]] = {0: {}}
    current, entered = [0], [0]

    def keep(tensor: Tensor) -> Tensor:
        is_known = any(tensor.data_ptr() in found for found in inside.values())
        if tensor.ndim == 4 and len(tensor) == ROWS and not is_known:
            inside[current[0]][tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    def enter(block: nn.Module, given: tuple[Tensor, ...]) -> None:
        current[0] = id(block)
        inside[id(block)] = {}
        entered[0] += given[0].numel() * given[0].element_size()

    def leave(*_: object) -> None:
        current[0] = 0

    for module in checkpointable_modules(network) if is_checkpointed else []:
        for block in module.checkpointed_blocks:
            block.register_forward_pre_hook(enter)
            block.register_forward_hook(leave)
    x = torch.zeros(ROWS, *shape, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(x, torch.zeros(())).sum().backward()
    outside, *blocks = (sum(found.values()) for found in inside.values())
    return (outside + entered[0] + max(blocks, default=0)) / ROWS


def check_memory(plan: FitPlan) -> None:
    """Refuse a fit that does not fit into memory, before anything is trained.

    Raises:
        DataError: More memory needed than available, with the sizes and what to lower.
    """
    if not plan.is_over_images:
        return
    found = footprint(plan)
    if not found.fits:
        raise DataError(
            f"this fit needs about {_size(found.total_bytes)} of memory ({_size(found.activation_bytes)} of it for a batch "
            f"of {plan.training.batch_size}) and {_size(found.available_bytes or 0)} are available: lower "
            "training.batch_size, network.num_channels or network.num_blocks, raise training.num_shards, or use a larger "
            "machine"
        )


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 // 10 else f"{count / 2**20:.1f} MiB"


def check_minutes(max_minutes: float | None) -> None:
    """Refuse a time limit that is no positive number of minutes; None is no limit.

    Args:
        max_minutes: Time to aim at for a fit.

    Raises:
        DataError: A limit that is not positive.
    """
    if max_minutes is not None and (isinstance(max_minutes, str) or not max_minutes > 0):
        raise DataError(f"max_minutes must be a positive number, got {max_minutes!r}")


@dataclass(frozen=True)
class Forecast:
    """Number of training steps that the allowed time admits.

    Attributes:
        num_steps: Training steps of each member; 0 where a contrast is not begun.
        seconds: Time that training takes at the measured speed; early stopping may undercut it.
    """

    num_steps: int
    seconds: float


def within_time(plan: FitPlan, max_minutes: float, *, clock: Clock | None = None) -> Forecast:
    """The number of steps that ``max_minutes`` of training admit at the speed measured on a throw-away state.

    A contrast takes as many steps as the time admits, up to :attr:`FitPlan.most_steps`. Where there is no time for its first
    evaluation it is not begun, since the untouched reference is a density already.

    Args:
        plan: Plan of the fit.
        max_minutes: Minutes of training.
        clock: Clock that the steps are timed by; the wall clock when not given.

    Warns:
        DRLDensityWarning: The time admits fewer steps than there are to the first evaluation. A contrast is then not begun,
            and any other fit takes longer.
    """
    per_step = seconds_per_step(plan, clock=clock)
    num_members, wanted = len(plan.members), plan.most_steps
    needed = min(plan.training.evaluate_every, plan.training.num_steps)  # training evaluates once at least
    allowed = int(SAFETY * 60 * max(max_minutes, 0.0) / per_step / num_members)
    if allowed >= needed:
        num_steps = min(wanted, allowed)
        return Forecast(num_steps, num_steps * per_step * num_members)
    seconds, networks = needed * per_step * num_members, "one network"
    mend = f"allow about {more_minutes(seconds / SAFETY / 60 - max_minutes):.1f} minutes more"
    if num_members > 1:
        fewer = "fewer folds (num_folds)" if plan.num_folds > 1 else "fewer networks (base, num_networks)"
        networks, mend = f"{num_members} networks", f"{mend}, or train {fewer}"
    if plan.device.type == "cpu" and torch.get_num_threads() > 1:
        mend = f"{mend}. {FEWER_THREADS}"
    lack = (
        f"max_minutes leaves time for {max(allowed, 0)} training steps of {per_step:.2g} s per network, but {needed} are "
        "needed at least"
    )
    if plan.has_reference:
        warnings.warn(
            f"{lack}: the reference density is reported without a tilt; for one, {mend}", DRLDensityWarning, stacklevel=4
        )
        return Forecast(0, 0.0)
    warnings.warn(
        f"{lack}; training will take {seconds:.0f} s for {networks}: {mend}", DRLDensityWarning, stacklevel=4
    )
    return Forecast(needed, seconds)


def seconds_per_step(plan: FitPlan, *, num_steps: int = TIMED_STEPS, clock: Clock | None = None) -> float:
    """Measured seconds of one training step, with its share of an evaluation.

    Args:
        plan: Plan of the fit.
        num_steps: Steps that are timed; the mean of the medians of both halves counts.
        clock: Clock that they are timed by; the wall clock when not given.
    """
    now = clock or Clock()
    state = plan.new_state(plan.largest_base, seed=plan.seed)
    training = dataclasses.replace(plan.training, num_steps=num_steps, evaluate_every=num_steps)
    held_out = plan.validation(seed=plan.seed)
    times: list[float] = []
    scored, num_unscored = _scored_by_few(plan)
    score = training_score(scored, held_out, state, seed=plan.seed)
    objective, evaluation = plan.objective_of(state, seed=plan.seed), plan.evaluation(held_out, score)
    # Paths take longer steps once increments and particles join in, by default after half of the steps.
    objective, evaluation = with_meter(objective, evaluation, state, num_steps=num_steps)
    with contextlib.closing(plan.source(state)) as batches:
        train(
            state,
            objective,
            batches,
            settings=training,
            evaluation=evaluation,
            doctor=plan.doctor,
            hooks=TrainingHooks(on_step=lambda _: times.append(now())),
        )
    evaluation = now() - times[-1]
    if num_unscored:
        rows = torch.randn(FEW_DRAWS, plan.largest_base.num_features, generator=torch.Generator().manual_seed(plan.seed))
        evaluation += num_unscored * _seconds_per_row_of(lambda n: tilts(state.model, rows[:n], 0.0), now, most=FEW_DRAWS)
    taken = [b - a for a, b in zip(times, times[1:], strict=False)]
    halves = sorted(taken[: num_steps // 2]), sorted(taken[num_steps // 2 :])
    per_step = 0.5 * sum(half[len(half) // 2] for half in halves)
    return per_step + evaluation / plan.training.evaluate_every


def _scored_by_few(plan: FitPlan) -> tuple[FitPlan, int]:
    """The plan with few draws of the base in a score, and how many are left out: draws of flows take seconds."""
    wanted = plan.selection.num_samples
    if wanted is None or wanted <= FEW_DRAWS * plan.num_folds:
        return plan, 0
    selection = dataclasses.replace(plan.selection, num_samples=FEW_DRAWS * plan.num_folds)
    return dataclasses.replace(plan, selection=selection), wanted // plan.num_folds - FEW_DRAWS


def finishing_seconds(plan: FitPlan, *, clock: Clock | None = None) -> float:
    """Forecast of the time after training: choosing the member, the final log Z, and the pool of draws.

    Counts the gradients that these take, and multiplies them by the measured time of one. Where draws of the base give log Z
    and the pool, most of the work is such draws with their weights, whose time is measured too.

    Args:
        plan: Plan of the fit.
        clock: Clock that both are timed by; the wall clock when not given.
    """
    now = clock or Clock()
    model = freeze(plan.new_model(plan.largest_base, seed=plan.seed).to(plan.device))
    most, least = (64, FEWEST_TIMED) if plan.is_over_images else (2048, FEWEST_SCORED)
    generator = torch.Generator().manual_seed(plan.seed)
    rows = torch.randn(most, plan.largest_base.num_features, generator=generator)
    per_row = _seconds_per_row_of(lambda count: model.score(rows[:count], 0.0), now, most=most, least=least)
    num_members, num_levels, sizes = len(plan.members), plan.schedule.num_levels, plan.normalizing
    num_scored = 0 if plan.selection.rule == "last" else 2 * num_members if num_members > 1 else 1
    num_averaged = num_members  # an average, if it is kept, costs all members at once
    if plan.selection.num_samples is not None:
        per_draw = _seconds_per_row_of(
            lambda count: tilts(model, base_draws(model, count, 0.0, generator), 0.0), now, most=most, least=least
        )
        if any(member.part is not None for member in plan.members):
            num_averaged = 1  # the average of folds leans on one base, which costs far more than the networks
        num_drawn = (num_scored + num_averaged) * plan.selection.num_samples
        num_drawn += num_averaged * proposals_per_draw(LEAST_EVEN_EFFICIENCY) * sizes.num_pool_draws
        settings = AISSettings(num_replicates=NUM_CHECKS)
        per_density = settings.num_particles * settings.num_replicates * 3 + settings.num_pilot_particles * 5
        return FINISHING_SAFETY * (per_draw * num_drawn + per_row * num_averaged * NUM_BRIDGES * per_density)
    if isinstance(plan.objective, PathMatching):
        paths = log_z_gradients(num_levels, sizes.num_particles)
        pool = (sizes.num_pool_draws + sizes.num_pool_pilot) * (2 * num_levels * 11 + 41)
        return PATH_SAFETY * per_row * (paths + pool)
    select = num_scored * (4 * num_levels + 1) * plan.selection.num_particles * (2 * 3 + 5)
    per_density = sizes.num_particles * 8 * 3 + sizes.num_pilot_particles * 5
    estimate = num_averaged * (sizes.steps_per_level * num_levels + 1) * per_density
    pool = num_averaged * (sizes.num_pool_draws + sizes.num_pool_pilot) * (2 * num_levels * 11 + 41)
    return FINISHING_SAFETY * per_row * (select + estimate + pool)


def _seconds_per_row_of(work: Callable[[int], object], now: Clock, *, most: int, least: int = FEWEST_TIMED) -> float:
    """Mean time of three calls over their rows after a first one, which warms caches up.

    The number of rows grows from ``least`` to ``most``, but not beyond that of a call that takes :data:`LONG_ENOUGH`.
    """
    count = min(most, least)
    while True:
        before = now()
        work(count)
        if count == most or now() - before >= LONG_ENOUGH:
            break
        count = min(most, 8 * count)
    before = now()
    for _ in range(3):
        work(count)
    return (now() - before) / 3 / count
