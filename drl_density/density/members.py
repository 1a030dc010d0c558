"""A density made of several trained members: their energies averaged, and back from plain values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from drl_density.model import EnergySequence, LogNormalizers, MeanNormalizers
from drl_density.networks import MLP, Ensemble, MLPSettings, NoisedGaussianMixture, Tilted
from drl_density.schedule import NoiseSchedule


def join(models: Sequence[EnergySequence]) -> EnergySequence:
    """One sequence whose energy is the mean of the members' energies, each with its own base.

    The mean of energies is the geometric mean of densities; a single member is returned as it is.
    """
    if len(models) == 1:
        return models[0]
    first = models[0]
    network = Ensemble([Tilted(model.base, model.network) for model in models])
    joined = EnergySequence(first.schedule, network, first.event_shape, has_base=False)
    joined.constants = MeanNormalizers([model.constants for model in models])
    return joined


def members_to_values(model: EnergySequence) -> dict[str, Any]:
    """Plain values from which :func:`members_from_values` builds the same modules."""
    if isinstance(model.network, Ensemble):
        parts = [(tilted.mixture, tilted.network) for tilted in model.network.networks]
    else:
        parts = [(model.base, model.network)]
    members = [
        {"base_components": base.num_components, "network": dataclasses.asdict(network.settings)}
        for base, network in parts
    ]
    return {"event_shape": list(model.event_shape), "members": members}


def members_from_values(values: dict[str, Any], schedule: NoiseSchedule) -> EnergySequence:
    """Modules of the right shapes, whose weights are to be loaded."""
    event_shape = tuple(values["event_shape"])
    models = []
    for member in values["members"]:
        base = NoisedGaussianMixture.empty(member["base_components"], math.prod(event_shape))
        models.append(EnergySequence(schedule, MLP(MLPSettings(**member["network"])), event_shape, base=base))
        models[-1].constants = LogNormalizers()
    return join(models)
