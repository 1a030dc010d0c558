"""What a fit over images will ask of memory and time, told before it begins."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from drl_density.density.fitting.build import build_image_networks
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.errors import DataError
from drl_density.networks import checkpointable_modules
from drl_density.training import TrainingSettings

COPIES = 16
"""Copies of the weights while training: weights, gradient, two moments, average, best, a good state of five, its double."""

SAVED = 5
"""Copies that are whole in the process that saves, where weights are cut over processes: those of a saved state."""

NARROW, ROWS = 8, 2
"""Channels and images on which activations are counted."""


@dataclass(frozen=True)
class Footprint:
    """Size of a training run.

    Attributes:
        num_parameters: of the energy and the initialiser.
        weight_bytes: weights with gradients, moments, averages and kept states.
        activation_bytes: what one gradient step keeps for its backward pass, a shard of the batch at once.
        available_bytes: memory to be had now, None where the system does not tell.
        seconds_per_step: estimate from one timed pass of a narrower network on this machine.
        num_steps: gradient steps.
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
        """False when more is needed than there is."""
        return self.available_bytes is None or self.total_bytes <= self.available_bytes

    def describe(self) -> str:
        """Two lines for a person."""
        there = "unknown" if self.available_bytes is None else _size(self.available_bytes)
        hours = self.seconds_per_step * self.num_steps / 3600
        return (
            f"{self.num_parameters:,} parameters; memory about {_size(self.total_bytes)} (weights and their copies "
            f"{_size(self.weight_bytes)}, activations {_size(self.activation_bytes)}), available {there}\n"
            f"time about {self.seconds_per_step:.2g} s a step on this machine, {hours:.3g} h for {self.num_steps:,} steps "
            "(a rough estimate; what is measured as training begins stands in the progress bar)"
        )


def footprint(settings: FitSettings, device: torch.device | None = None) -> Footprint:
    """Of resolved ``settings`` with a network over images, to be trained on ``device``.

    Activations are counted on narrow networks, to whose width they are proportional. The time is the shortest of three
    gradients of one somewhat wider, times the square of the widths' ratio, the batch, and the passes of a step.

    >>> from drl_density.density import ImageSettings
    >>> settings = FitSettings(network="residual", num_levels=3, images=ImageSettings(num_channels=4))
    >>> footprint(settings.resolve(100, 64, 0.1, event_shape=(1, 8, 8))).num_parameters > 1000
    True
    """
    schedule = settings.noise_schedule()
    num_parameters = sum(
        part.numel()
        for network in build_image_networks(settings, schedule, None)
        if network is not None
        for part in network.parameters()
    )
    images, training = settings.images, settings.training
    batch, wider = training.batch_size, min(32, images.num_channels)
    energy, initializer = _thin(settings, NARROW)
    classified = settings.num_levels * settings.classification_share if settings.classification_weight else 0.0
    is_twice = settings.objective == "denoising"  # keeps the way back too, and checkpoints spare it nothing
    kept = energy.bytes_per_row(is_checkpointed=training.is_checkpointed and not is_twice)
    kept *= max(2, classified) * images.num_channels / energy.width * (2 if is_twice else 1)
    if initializer is not None:
        kept += images.initializer_channels / initializer.width * initializer.bytes_per_row()
    x = torch.zeros(2, *images.shape, requires_grad=True)
    network, times = _thin(settings, wider)[0].network, []
    for _ in range(3):
        started = time.monotonic()
        torch.autograd.grad(network(x, torch.zeros(())).sum(), x)
        times.append(time.monotonic() - started)
    per_row = min(times) / 2 * (images.num_channels / wider) ** 2
    # A step: one gradient per chain step and one before the first, then forward and backward on both ends.
    chain = 1 if settings.objective in ("normal", "denoising") else settings.num_chain_steps + 1
    return Footprint(
        num_parameters=num_parameters,
        weight_bytes=int(4 * num_parameters * _copies(training, device)),
        activation_bytes=int(kept * batch / training.num_shards),
        available_bytes=available_memory(device),
        seconds_per_step=per_row * batch * (chain + 3 + 1.5 * classified),
        num_steps=settings.training.num_steps,
    )


def _copies(training: TrainingSettings, device: torch.device | None) -> float:
    """Copies of the weights in the memory of one process, the one that holds most of them."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if not training.has_sharded_weights or count == 1:
        return COPIES
    saved = 0 if device is not None and device.type == "cuda" else SAVED
    # Whole are the weights during a step, and the averaged ones, which are evaluated.
    return 2 + (COPIES - 1) / count + saved


@dataclass(frozen=True)
class _Thin:
    """A network of fewer channels, on which activations are counted."""

    network: nn.Module
    width: int
    shape: tuple[int, int, int]

    def bytes_per_row(self, *, is_checkpointed: bool = False) -> float:
        """What a pass keeps for its way back; checkpointed, what goes into the blocks and the inside of the largest."""
        inside: dict[int, dict[int, int]] = {0: {}}
        place, entered = [0], [0]

        def keep(tensor: Tensor) -> Tensor:
            seen = any(tensor.data_ptr() in found for found in inside.values())
            if tensor.ndim == 4 and len(tensor) == ROWS and not seen:
                inside[place[0]][tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        def enter(block: nn.Module, given: tuple[Tensor, ...]) -> None:
            place[0] = id(block)
            inside[id(block)] = {}
            entered[0] += given[0].numel() * given[0].element_size()

        def leave(*_: object) -> None:
            place[0] = 0

        for block in _checkpointed_blocks(self.network) if is_checkpointed else []:
            block.register_forward_pre_hook(enter)
            block.register_forward_hook(leave)
        x = torch.zeros(ROWS, *self.shape, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self.network(x, torch.zeros(())).sum().backward()
        outside, *blocks = (sum(found.values()) for found in inside.values())
        return (outside + entered[0] + max(blocks, default=0)) / ROWS


def _checkpointed_blocks(network: nn.Module) -> list[nn.Module]:
    return [block for module in checkpointable_modules(network) for block in module.checkpointed_blocks]


def _thin(settings: FitSettings, num_channels: int) -> tuple[_Thin, _Thin | None]:
    """The energy of ``settings``, and its initialiser where it has one, with no more than so many channels."""
    images = settings.images
    widths = min(num_channels, images.num_channels), min(num_channels, images.initializer_channels)
    thin = dataclasses.replace(images, num_channels=widths[0], initializer_channels=widths[1])
    networks = build_image_networks(
        dataclasses.replace(settings, images=thin), settings.noise_schedule(), torch.Generator().manual_seed(0)
    )
    energy, initializer = (
        None if network is None else _Thin(network, width, images.shape)
        for network, width in zip(networks, widths, strict=True)
    )
    return energy, initializer


def check_memory(settings: FitSettings, device: torch.device | None = None) -> None:
    """Refuse a fit whose memory does not fit, before anything is trained.

    Args:
        settings: resolved settings of the fit.
        device: to be trained on; main memory counts when not given.

    Raises:
        DataError: with the sizes, and what to lower.

    >>> from drl_density.density import ImageSettings
    >>> settings = FitSettings(network="residual", num_levels=3, images=ImageSettings(num_channels=4))
    >>> check_memory(settings.resolve(100, 64, 0.1, event_shape=(1, 8, 8)))
    """
    if not settings.is_over_images:
        return
    found = footprint(settings, device)
    if not found.fits:
        raise DataError(
            f"this fit needs about {_size(found.total_bytes)} of memory ({_size(found.activation_bytes)} of it for a batch "
            f"of {settings.training.batch_size}) and {_size(found.available_bytes or 0)} are available: lower "
            "training.batch_size, images.num_channels or images.num_blocks, raise training.num_shards, or use a larger "
            "machine"
        )


def available_memory(device: torch.device | None = None) -> int | None:
    """Bytes that a new process may hope for, of a CUDA device or of main memory; None where the system does not say.

    Processes of one ``torchrun`` on a machine share its main memory.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    table = Path("/proc/meminfo")
    if not table.is_file():
        return None
    lines = dict(line.split(":", 1) for line in table.read_text().splitlines())
    if "MemAvailable" not in lines:
        return None
    return int(lines["MemAvailable"].split()[0]) * 1024 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 // 10 else f"{count / 2**20:.1f} MiB"
