"""A density made of several trained members: their energies averaged, and back from plain values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from drl_density.bases import NoisedGaussianMixture, QuadraticBase, Tilted
from drl_density.density.model_state import image_network_from_values, image_network_to_values
from drl_density.model import EnergySequence, LogNormalizers, MeanNormalizers
from drl_density.networks import MLP, Ensemble, MLPSettings
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
    members = [{**_base_to_values(base), **_network_to_values(network)} for base, network in parts]
    values = {"event_shape": list(model.event_shape), "members": members}
    if model.initializer is not None:
        values["initializer"] = image_network_to_values(model.initializer)
    return values


def _base_to_values(base: NoisedGaussianMixture | QuadraticBase) -> dict[str, Any]:
    if isinstance(base, QuadraticBase):
        return {"base_scale": base.scale}
    return {"base_components": base.num_components, "base_is_diagonal": base.is_diagonal}


def _network_to_values(network: nn.Module) -> dict[str, Any]:
    return (
        {"network": dataclasses.asdict(network.settings)}
        if isinstance(network, MLP)
        else image_network_to_values(network)
    )


def members_from_values(values: dict[str, Any], schedule: NoiseSchedule) -> EnergySequence:
    """Modules of the right shapes, whose weights are to be loaded."""
    event_shape = tuple(values["event_shape"])
    models = []
    for member in values["members"]:
        if "base_scale" in member:
            base = QuadraticBase(math.prod(event_shape), member["base_scale"])
        else:
            # Folders written before components without axes were kept as such do not say.
            is_diagonal = member.get("base_is_diagonal", False)
            count, num_features = member["base_components"], math.prod(event_shape)
            base = NoisedGaussianMixture.empty(count, num_features, is_diagonal=is_diagonal)
        is_table = "kind" not in member
        network = MLP(MLPSettings(**member["network"])) if is_table else image_network_from_values(member)
        models.append(EnergySequence(schedule, network, event_shape, base=base))
        models[-1].constants = LogNormalizers()
    if "initializer" in values:
        models[0].initializer = image_network_from_values(values["initializer"])
    return join(models)
