"""Where tensors live: the device that a user asks for, and random numbers that come to it.

Models and states in model space live on the model's device; rows in data units, log weights and figures on the CPU.
Generators live on the CPU as well: numbers are drawn where their generator lives and then moved, so that a seed means the
same numbers on every device, and a saved run can go on on another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor


class Placed(Protocol):
    """What has a dtype and a device: a tensor, or a sequence of models."""

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of its values."""
        ...

    @property
    def device(self) -> torch.device:
        """Device on which its values live."""
        ...


def find_device(asked: str | torch.device) -> torch.device:
    """The device of that name, tried out.

    Args:
        asked: such as "cpu", "cuda" or "cuda:1".

    Returns:
        The device; it holds float64 and can be read from.

    Raises:
        ValueError: no such device here; the message says what torch has.

    >>> find_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(asked)
        torch.zeros(1, dtype=torch.float64, device=device).tolist()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        kind = torch.accelerator.current_accelerator()
        found = ", ".join(["cpu", *(f"{kind.type}:{index}" for index in range(torch.accelerator.device_count()))])
        raise ValueError(
            f"device {str(asked)!r} cannot be used ({reason}); torch {torch.__version__} has {found} "
            "here: name one of those, give no device, or install a torch that is built for this card"
        ) from error
    return device


def normal_draws(shape: Sequence[int], like: Placed, generator: torch.Generator | None) -> Tensor:
    """N(0, 1) of this shape, with the dtype and on the device of ``like``, drawn where ``generator`` lives.

    >>> normal_draws((2, 3), torch.zeros(1), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3])
    """
    home = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=home).to(like.device)


def uniform_draws(shape: Sequence[int], like: Placed, generator: torch.Generator | None) -> Tensor:
    """Uniform in [0, 1), otherwise as :func:`normal_draws`."""
    home = like.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=home).to(like.device)


def generator_device(generator: torch.Generator | None) -> torch.device:
    """The device on which random numbers are drawn: the generator's, or the CPU without one.

    >>> generator_device(None)
    device(type='cpu')
    """
    return torch.device("cpu") if generator is None else generator.device


@contextmanager
def whole_float32(device: torch.device) -> Iterator[None]:
    """Inside, float32 convolutions and matrix products on a CUDA device keep all their bits.

    By default torch lets convolutions there round their inputs to 10 bits (TF32), which moves a log density of hundreds of
    nats by tenths. The flags are torch's own and come back as they were.

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
def globally_seeded(generator: torch.Generator, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, torch's global generators (the CPU's, and that of ``device``) continue from a seed drawn from ``generator``;
    after it they are where they were.

    For what takes no generator: ``sample()`` of a distribution of torch or Pyro, and dropout.

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
