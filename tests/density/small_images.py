"""Presets of images cut down to seconds."""

import dataclasses

import torch

import drl_density as drl
from drl_density.density import CooperativeObjective, DenoisingObjective, NormalObjective
from drl_density.density.fitting.plan import plan_fit


def with_parts(settings, **parts):
    """Settings with some fields of their nested parts replaced, such as ``network={"num_classes": 2}``."""
    return dataclasses.replace(
        settings, **{name: dataclasses.replace(getattr(settings, name), **given) for name, given in parts.items()}
    )


def settings_for(name, *, objective=None, num_levels=2, network=None, objective_parts=None, **changes):
    """A preset, with another kind of objective if asked for, cut down to seconds."""
    preset = drl.FitSettings.preset(name).with_kinds(objective=objective)
    chains = {} if isinstance(preset.objective, DenoisingObjective | NormalObjective) else {"num_chain_steps": 2}
    if isinstance(preset.objective, CooperativeObjective):
        chains |= {"initializer_channels": 4, "initializer_multipliers": (1,), "initializer_blocks": 1}
    cut = with_parts(
        preset,
        objective=chains | (objective_parts or {}),
        network={"shape": None, "num_channels": 4, "multipliers": (1,), "num_blocks": 1} | (network or {}),
        schedule={"num_levels": num_levels},
        training={"num_steps": 2, "evaluate_every": 2, "batch_size": 8},
    )
    small = {"num_particles": 4, "num_pool_draws": 2, "num_validation_rows": 16}
    return dataclasses.replace(cut, **{**small, **changes})


def plan_for(name, dataset, **changes):
    """The plan of a fit of ``dataset`` with :func:`settings_for`."""
    return plan_fit(dataset, settings_for(name, **changes))


def right_over_left(rows):
    """Mean of the right half of 4x4 images minus that of the left half."""
    pixels = torch.as_tensor(rows, dtype=torch.float64).reshape(-1, 4, 4)
    return pixels[:, :, 2:].mean((1, 2)) - pixels[:, :, :2].mean((1, 2))
