"""Draws from torch's global generator that depend on a given one alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
