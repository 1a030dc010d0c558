"""Sampler loops without launch overhead: the passes of a fixed log density, captured once as CUDA graphs."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.mcmc.kernel import LogDensity


def graphed(log_density: LogDensity, example: Tensor) -> LogDensity:
    """The same log density, its forward and input-gradient passes replayed from CUDA graphs; unchanged on other devices.

    A chain of small batches spends most of its time launching kernels; a graph launches once per pass. Noise, acceptance and
    step sizes stay outside, so kernels and their generators work as ever. Only for a density whose parameters are frozen
    and which asks the host nothing on the way (``model.log_density_at`` with a log-SNR that stands on the device).

    Args:
        log_density: maps states of the shape of ``example`` to ``(chains,)``.
        example: states ``(chains, *event)``; the graph is for this shape alone.

    >>> graphed(torch.sum, torch.zeros(2, 3)) is torch.sum
    True
    """
    if example.device.type != "cuda":
        return log_density
    return torch.cuda.make_graphed_callables(log_density, (example.detach().clone().requires_grad_(True),))
