"""Energy and initialiser of a fit to images."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from drl_density.bases import base_from_state
from drl_density.density.ensemble import join
from drl_density.model import EnergySequence, LogNormalizers
from drl_density.networks import (
    MLP,
    Ensemble,
    LabelSum,
    MLPSettings,
    ResidualEnergy,
    ResidualSettings,
    StepCalibrated,
    UNet,
    UNetEnergy,
    UNetEnergySettings,
    UNetSettings,
)
from drl_density.schedule import NoiseSchedule

KINDS: dict[str, tuple[type[nn.Module], type]] = {
    "unet": (UNet, UNetSettings),
    "unet_energy": (UNetEnergy, UNetEnergySettings),
    "residual": (ResidualEnergy, ResidualSettings),
}
"""What a saved network may be, by the name that its file holds."""


def image_network_to_values(network: nn.Module) -> dict[str, Any]:
    """Plain values of an energy or initialiser over images."""
    if isinstance(network, LabelSum):
        inner = image_network_to_values(network.network)
        return {**inner, "labels": list(network.labels), "label_weights": list(network.weights)}
    if isinstance(network, StepCalibrated):
        return {"num_calibrated": len(network.level_log_snr), **image_network_to_values(network.network)}
    kind = next(name for name, (made, _) in KINDS.items() if isinstance(network, made))
    return {"kind": kind, "network": dataclasses.asdict(network.settings)}


def image_network_from_values(values: dict[str, Any]) -> nn.Module:
    """The inverse, with weights that are about to be loaded."""
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values["network"].items()}
    made, sizes = KINDS[values["kind"]]
    network: nn.Module = made(sizes(**plain))
    if "num_calibrated" in values:
        ones = torch.ones(values["num_calibrated"], dtype=torch.float64)
        network = StepCalibrated(network, -ones.cumsum(0), ones, ones)
    if "labels" in values:
        network = LabelSum(network, values["labels"], values["label_weights"])
    return network


def members_to_values(model: EnergySequence) -> dict[str, Any]:
    """Plain values from which :func:`members_from_values` builds the same modules."""
    if isinstance(model.network, Ensemble):
        parts = [(tilted.base, tilted.network) for tilted in model.network.networks]
    else:
        parts = [(model.base, model.network)]
    members = [{"base": base.to_state(), **_network_to_values(network)} for base, network in parts]
    values = {"event_shape": list(model.event_shape), "members": members}
    if model.initializer is not None:
        values["initializer"] = image_network_to_values(model.initializer)
    return values


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
        base = base_from_state(member["base"])
        is_table = "kind" not in member
        network = MLP(MLPSettings(**member["network"])) if is_table else image_network_from_values(member)
        models.append(EnergySequence(schedule, network, event_shape, base=base))
        models[-1].constants = LogNormalizers()
    if "initializer" in values:
        models[0].initializer = image_network_from_values(values["initializer"])
    return join(models)
