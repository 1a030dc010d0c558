"""The networks and bases of a sequence as plain values, from which modules of the same shapes are built."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from drl_density.bases import AveragedTilts, Base, Tilted, base_from_state
from drl_density.density.ensemble import join_apart, join_on_base
from drl_density.model import EnergySequence
from drl_density.networks import (
    MLP,
    ColumnTilt,
    ColumnTiltSettings,
    Ensemble,
    LabelSum,
    LogNormalizers,
    MLPSettings,
    NoTilt,
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
"""Networks over images with their settings, by the name that a saved file gives them."""


def image_network_to_values(network: nn.Module) -> dict[str, Any]:
    """Plain values of an energy or initialiser network over images.

    Raises:
        TypeError: A network of another kind, which cannot be saved.
    """
    if isinstance(network, LabelSum):
        inner = image_network_to_values(network.network)
        return {**inner, "labels": list(network.labels), "label_weights": list(network.weights)}
    if isinstance(network, StepCalibrated):
        return {"num_calibrated": len(network.level_log_snr), **image_network_to_values(network.network)}
    if not isinstance(network, UNet | UNetEnergy | ResidualEnergy):
        raise TypeError(
            f"a {type(network).__name__} cannot be saved; known are {', '.join(KINDS)}, and an MLP for tables"
        )
    kind = next(name for name, (made, _) in KINDS.items() if isinstance(network, made))
    return {"kind": kind, "network": dataclasses.asdict(network.settings)}


def image_network_from_values(values: dict[str, Any]) -> nn.Module:
    """The network with these plain values, whose weights are still to be loaded.

    Args:
        values: Plain values from :func:`image_network_to_values`.
    """
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values["network"].items()}
    made, sizes = KINDS[values["kind"]]
    network: nn.Module = made(sizes(**plain))
    if "num_calibrated" in values:
        # Placeholders of the right shape; the saved tensors replace them.
        ones = torch.ones(values["num_calibrated"], dtype=torch.float64)
        network = StepCalibrated(network, -ones.cumsum(0), ones, ones)
    if "labels" in values:
        network = LabelSum(network, values["labels"], values["label_weights"])
    return network


def members_to_values(model: EnergySequence) -> dict[str, Any]:
    """Plain values of a sequence and its members, from which :func:`members_from_values` builds the same modules.

    Raises:
        TypeError: A base or network that cannot be saved.
    """
    values: dict[str, Any] = {"event_shape": list(model.event_shape), **_members(model)}
    if model.initializer is not None:
        values["initializer"] = image_network_to_values(model.initializer)
    return values


def _members(model: EnergySequence) -> dict[str, Any]:
    """Networks and bases of the members; networks that are averaged on one base have it beside them."""
    base, network = model.base, model.network
    if base is not None and isinstance(network, Ensemble) and not isinstance(network, AveragedTilts):
        return {"base": base.to_state(), "members": [_network_to_values(member) for member in network.networks]}
    return {"members": [{"base": base.to_state(), **_network_to_values(member)} for base, member in _parts(model)]}


def _parts(model: EnergySequence) -> list[tuple[Base, nn.Module]]:
    """The base and network of each member."""
    if not isinstance(model.network, Ensemble):
        if model.base is None:
            raise TypeError("a sequence without a fixed base cannot be saved as a density")
        return [(model.base, model.network)]
    parts = []
    for member in model.network.networks:
        if not isinstance(member, Tilted):
            raise TypeError(f"members of an average are a base with a network, got {type(member).__name__}")
        parts.append((member.base, member.network))
    return parts


def _network_to_values(network: nn.Module) -> dict[str, Any]:
    if isinstance(network, MLP):
        return {"network": dataclasses.asdict(network.settings)}
    if isinstance(network, NoTilt):
        return {"kind": "none"}
    if isinstance(network, ColumnTilt):
        return {"kind": "columns", "network": dataclasses.asdict(network.settings)}
    return image_network_to_values(network)


def members_from_values(values: dict[str, Any], schedule: NoiseSchedule) -> EnergySequence:
    """The sequence with these plain values, whose weights are still to be loaded.

    Args:
        values: Plain values from :func:`members_to_values`.
        schedule: Noise levels of the sequence.
    """
    event_shape = tuple(values["event_shape"])
    common = base_from_state(values["base"]) if "base" in values else None
    models = []
    for member in values["members"]:
        base = base_from_state(member["base"]) if common is None else common
        models.append(EnergySequence(schedule, _network_from_values(member), event_shape, base=base))
        models[-1].constants = LogNormalizers()
    if "initializer" in values:
        models[0].initializer = image_network_from_values(values["initializer"])
    return join_apart(models) if common is None else join_on_base(models, common)


def _network_from_values(values: dict[str, Any]) -> nn.Module:
    if "kind" not in values:
        return MLP(MLPSettings(**values["network"]))
    if values["kind"] == "none":
        return NoTilt()
    if values["kind"] == "columns":
        return ColumnTilt(ColumnTiltSettings(**values["network"]))
    return image_network_from_values(values)
