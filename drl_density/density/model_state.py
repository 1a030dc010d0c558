"""Energy and initialiser of a fit to images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from drl_density.density.settings.fit_settings import FitSettings
from drl_density.networks import (
    Composed,
    ResidualEnergy,
    ResidualSettings,
    StepCalibrated,
    UNet,
    UNetEnergy,
    UNetEnergySettings,
    UNetSettings,
)
from drl_density.schedule import NoiseSchedule

Draw = Callable[[int, torch.Generator], Tensor]

KINDS: dict[str, tuple[type[nn.Module], type]] = {
    "unet": (UNet, UNetSettings),
    "unet_energy": (UNetEnergy, UNetEnergySettings),
    "residual": (ResidualEnergy, ResidualSettings),
}
"""What a saved network may be, by the name that its file holds."""


def build_image_networks(
    settings: FitSettings, schedule: NoiseSchedule, generator: torch.Generator | None
) -> tuple[nn.Module, nn.Module | None]:
    """(energy, initialiser or None) of resolved ``settings``."""
    images = settings.images
    level_log_snr = tuple(schedule.log_snr[:-1].tolist()) if images.has_level_index else None
    network: nn.Module
    if settings.network == "unet":
        network = UNetEnergy(images.unet_sizes(settings.dropout or 0.0), generator=generator)
    else:
        network = ResidualEnergy(images.residual_sizes(level_log_snr), generator=generator)
    if images.is_step_calibrated:
        step_alpha, step_size = schedule.langevin_steps(
            settings.langevin_factor, is_top_marginal=settings.objective != "normal"
        )
        network = StepCalibrated(network, schedule.log_snr[:-1], step_alpha, step_size)
    if settings.objective != "cooperative":
        return network, None
    initializer = UNetSettings(
        images.shape,
        num_channels=images.initializer_channels,
        multipliers=images.initializer_multipliers,
        num_blocks=images.initializer_blocks,
        num_classes=images.num_classes,
    )
    return network, UNet(initializer, generator=generator)


def mirrored(draw: Draw, shape: tuple[int, int, int]) -> Draw:
    """Rows of ``draw`` with each image mirrored left to right with chance one half."""

    def batches(num_rows: int, generator: torch.Generator) -> Tensor:
        return mirror(draw(num_rows, generator), shape, generator)

    return batches


def mirror(rows: Tensor, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Flat images ``(n, d)`` mirrored left to right with chance one half."""
    chosen = torch.rand(len(rows), generator=generator, device=generator.device).to(rows.device) < 0.5
    flipped = rows.reshape(len(rows), *shape).flip(-1).reshape(rows.shape)
    return torch.where(chosen[:, None], flipped, rows)


def image_network_to_values(network: nn.Module) -> dict[str, Any]:
    """Plain values of an energy or initialiser over images."""
    if isinstance(network, Composed):
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
        network = Composed(network, values["labels"], values["label_weights"])
    return network
