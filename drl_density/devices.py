"""Devices: finding the one that a user names, drawing random numbers for it, and its precision.

Models, and states in model space, are stored on the model's device; rows in data units, log weights and results on the CPU.
Generators are on the CPU too: numbers are drawn on the generator's device and then moved. A seed therefore means the same
numbers on every device, and a saved run can resume on another one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor


class Placed(Protocol):
    """An object with a dtype and a device, such as a tensor or a sequence of models."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of its numbers."""
        ...

    @property
    def device(self) -> torch.device:
        """Device on which they are stored."""
        ...


def find_device(asked: str | torch.device) -> torch.device:
    """Find the device of a given name, and check that it stores float64 and can be read from.

    Args:
        asked: name of the device, such as "cpu", "cuda" or "cuda:1".

    Raises:
        ValueError: no such device on this machine. The message lists those that torch has.

    >>> find_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(asked)
        torch.zeros(1, dtype=torch.float64, device=device).tolist()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        kind = torch.accelerator.current_accelerator()
        others = [] if kind is None else [f"{kind.type}:{i}" for i in range(torch.accelerator.device_count())]
        found = ", ".join(["cpu", *others])
        raise ValueError(
            f"device {str(asked)!r} cannot be used ({reason}); torch {torch.__version__} has {found} "
            "here: name one of those, give no device, or install a torch that is built for this GPU"
        ) from error
    return device


def available_memory(device: torch.device | None = None) -> int | None:
    """Bytes available to a new process on a CUDA device or in main memory; None where the system does not report them.

    The processes of one ``torchrun`` on a machine share its main memory.

    Args:
        device: Device where models are trained; main memory counts for all but CUDA devices.
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


def normal_draws(shape: Sequence[int], like: Placed, generator: torch.Generator | None) -> Tensor:
    """Draw standard normal numbers on the device of ``generator``, and move them to that of ``like``.

    Args:
        shape: shape of the result.
        like: object whose dtype and device the result gets.
        generator: source of the numbers; None uses torch's global generator on the device of ``like``.

    >>> normal_draws((2, 3), torch.zeros(1), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3])
    """
    home = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=home).to(like.device)


def uniform_draws(shape: Sequence[int], like: Placed, generator: torch.Generator | None) -> Tensor:
    """Draw uniform numbers in [0, 1); arguments as in :func:`normal_draws`."""
    home = like.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=home).to(like.device)


def generator_device(generator: torch.Generator | None) -> torch.device:
    """Find the device on which random numbers are drawn: the generator's, or the CPU without a generator.

    >>> generator_device(None)
    device(type='cpu')
    """
    return torch.device("cpu") if generator is None else generator.device


@contextmanager
def whole_float32(device: torch.device) -> Iterator[None]:
    """Context in which float32 convolutions and matrix products on a CUDA device keep all their bits.

    By default torch lets GPU convolutions round their inputs to 10 bits (TF32), which changes a log density of hundreds of
    nats by tenths. Torch's flags are restored afterwards.

    >>> with whole_float32(torch.device("cuda")):
    ...     torch.backends.cuda.matmul.allow_tf32
    False
    """
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):
        places, name, whole = (matmul, cudnn.conv, cudnn.rnn), "fp32_precision", "ieee"
    else:  # before torch 2.9
        places, name, whole = (matmul, cudnn), "allow_tf32", False
    before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, whole)
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, name, value)


@contextmanager
def global_generator_kept() -> Iterator[None]:
    """Context, also a decorator, that leaves torch's global generator as it was.

    New layers draw their first weights from it, before those of a seeded generator or of a file replace them.

    >>> torch.manual_seed(0) and None
    >>> with global_generator_kept():
    ...     layer = torch.nn.Linear(2, 2)
    >>> found = torch.rand(())
    >>> bool(found == torch.rand((), generator=torch.Generator().manual_seed(0)))
    True
    """
    with torch.random.fork_rng(devices=[]):
        yield


@contextmanager
def globally_seeded(generator: torch.Generator, device: torch.device | str = "cpu") -> Iterator[None]:
    """Context in which torch's global generators run from a seed drawn from ``generator``; they are restored afterwards.

    It serves functions that take no generator: dropout, and ``sample()`` of distributions of torch and Pyro.

    Args:
        generator: source of the seed.
        device: device whose global generator is seeded as well as the CPU's.

    >>> generator = torch.Generator().manual_seed(0)
    >>> with globally_seeded(generator):
    ...     first = torch.rand(2)
    >>> with globally_seeded(generator.manual_seed(0)):
    ...     bool((torch.rand(2) == first).all())
    True
    """
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        # torch.manual_seed would also queue a call, with a formatted stack, for every kind of device that is not in use.
        torch.default_generator.manual_seed(seed)
        for one in devices:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield
