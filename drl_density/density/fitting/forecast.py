"""How long a fit will take, measured before it begins."""

from __future__ import annotations

import dataclasses
import time
import warnings

import torch

from drl_density.density.data_units import freeze
from drl_density.density.fitting.build import (
    build_doctor,
    build_model,
    build_objective,
    fresh_state,
    members_of,
    training_batches,
)
from drl_density.density.fitting.selection import validation_rows, validation_score
from drl_density.density.fitting.table import Table
from drl_density.density.normalizing import final_annealing, num_pilot
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.errors import DRLDensityWarning
from drl_density.training import Evaluation, TrainingHooks, train


def within_time(
    table: Table, settings: FitSettings, max_minutes: float, *, seed: int, device: torch.device | None = None
) -> tuple[FitSettings, float]:
    """Cut the number of steps to what ``max_minutes`` allows at the speed measured on a throw-away state.

    Returns the settings and the forecast of the training time in seconds, which early stopping may undercut.
    """
    per_step = seconds_per_step(table, settings, seed=seed, device=device)
    num_members = len(members_of(table, settings))
    allowed = int(0.9 * 60 * max(max_minutes, 0.0) / per_step / num_members)
    every = settings.training.evaluate_every
    if allowed < every:
        warnings.warn(
            f"max_minutes leaves {max(allowed, 0)} training steps of {per_step:.2g} s for each of {num_members} members; "
            f"the least is {every}, so the fit will take longer: allow more time, or fewer members (base, num_networks)",
            DRLDensityWarning,
            stacklevel=3,
        )
    num_steps = max(every, min(settings.training.num_steps, allowed))
    cut = dataclasses.replace(settings, training=dataclasses.replace(settings.training, num_steps=num_steps))
    return cut, num_steps * per_step * num_members


def seconds_per_step(
    table: Table, settings: FitSettings, *, seed: int, device: torch.device | None = None, num_steps: int = 12
) -> float:
    """Measured seconds per training step, its share of an evaluation included."""
    widest = max(table.bases.mixtures.values(), key=lambda base: base.num_components)
    state = fresh_state(settings, widest, seed=seed, device=device)
    every = num_steps
    training = dataclasses.replace(settings.training, num_steps=num_steps, evaluate_every=every)
    held_out = validation_rows(table, settings, seed=seed)
    times: list[float] = []
    score = validation_score(settings, held_out, state, seed=seed)
    train(
        state,
        build_objective(settings),
        training_batches(table, settings),
        settings=training,
        evaluation=Evaluation(held_out.rows, score=score),
        doctor=build_doctor(settings),
        hooks=TrainingHooks(on_step=lambda _: times.append(time.monotonic())),
    )
    done = time.monotonic()
    per_step = sorted(b - a for a, b in zip(times, times[1:], strict=False))[len(times) // 2 - 1]
    return per_step + (done - times[-1]) / settings.training.evaluate_every


def finishing_seconds(table: Table, settings: FitSettings, *, seed: int, device: torch.device | None = None) -> float:
    """Forecast of what comes after training: choosing the member, the final log Z, the pool of draws.

    Gradients needed, counted from the sizes of those steps, times the measured time of one.
    """
    widest = max(table.bases.mixtures.values(), key=lambda base: base.num_components)
    model = freeze(build_model(settings, widest, seed=seed).to(device))
    count = 2048 if settings.network == "mlp" else 64
    rows = torch.randn(count, widest.num_features, generator=torch.Generator().manual_seed(seed))
    model.score(rows, 0.0)
    before = time.monotonic()
    for _ in range(3):
        model.score(rows, 0.0)
    per_row = (time.monotonic() - before) / (3 * len(rows))
    num_members, num_levels = len(members_of(table, settings)), settings.num_levels
    shares = num_members  # an average, if it is kept, costs all members at once
    looks = 0 if settings.selection == "last" else 2 * num_members if num_members > 1 else 1
    select = looks * (4 * num_levels + 1) * settings.num_particles * (2 * 3 + 5)
    annealing, per_level = final_annealing(settings)
    estimate = (
        shares * (per_level * num_levels + 1) * (annealing.num_particles * 8 * 3 + annealing.num_pilot_particles * 5)
    )
    pool = (
        shares * (settings.num_pool_draws + num_pilot(settings, settings.num_pool_draws)) * (2 * num_levels * 11 + 41)
    )
    return 1.4 * per_row * (select + estimate + pool)
