"""Sizes of a diffusion sampler's walk and of its training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from drl_density.records.fields import Interval, NonNegativeInt, PositiveFloat, PositiveInt, check_fields

Whitening = Literal["none", "diagonal", "full"]


@dataclass(frozen=True)
class DiffusionSamplerSettings:
    """Steps of a diffusion sampler's walk, and sizes of its training.

    Attributes:
        num_steps: K, the number of steps of a walk.
        scale: s, the standard deviation of the reference, which must cover the target.
        decay: sum of -log(1 - alpha_k) over the walk. A large value forgets the start of the noising completely, a small
            one leaves smaller steps.
        whitening: whether the walk has the coordinates z of x = mean + L z, by the mean of the chains' draws and their
            standard deviations ("diagonal") or the Cholesky factor of their covariance ("full"). The scale is then in
            units of z. Useful for correlated targets with one mode or few.
        width: number of hidden units of the control network.
        num_column_features: sigmoids of each coordinate alone, whose weights depend on the step, beside that network; useful
            for targets whose coordinates have several wells each. 0 for none.
        num_chain_updates: gradient steps that lower the upper bound of log Z, on draws of adjusted chains.
        num_chains: number of chains that run alongside those steps, from N(0, s^2 I).
        num_restarts: how often, in the first half of those steps, the chains start again at ends of the sampler's own walks,
            drawn by their weights. Chains that hardly change modes keep the shares that the modes have at their start. So
            restarts give several modes their shares.
        num_states: noised states for each of those steps.
        num_walk_updates: later gradient steps that raise the lower bound on the sampler's own walks, as in the paper; each
            is K times as expensive.
        batch_size: walks for each of those later steps.
        learning_rate: initial learning rate of Adam; a fifth of it for walks after chains.
        gradient_scale: size beyond which the target's gradient, an input of the control, is smoothly compressed.
        most_rollbacks: how often training may return to the network of up to 50 updates earlier, at half the learning rate,
            after a bound that is not finite.

    Raises:
        ValueError: no steps, no updates, fewer than two chains, no states or walks, a scale or decay that is not positive,
            or whitening or restarts without updates on chains.

    >>> DiffusionSamplerSettings(num_steps=10).shares().shape
    torch.Size([10])
    """

    num_steps: PositiveInt = 64
    scale: PositiveFloat = 1.0
    decay: PositiveFloat = 6.0
    whitening: Whitening = "none"
    width: PositiveInt = 64
    num_column_features: NonNegativeInt = 0
    num_chain_updates: NonNegativeInt = 2000
    num_chains: Annotated[int, Interval(2)] = 512
    num_restarts: NonNegativeInt = 0
    num_states: PositiveInt = 2048
    num_walk_updates: NonNegativeInt = 0
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 5e-3
    gradient_scale: PositiveFloat = 100.0
    most_rollbacks: NonNegativeInt = 4

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.num_chain_updates + self.num_walk_updates:
            raise ValueError(
                "expected updates on chains or on walks, got num_chain_updates="
                f"{self.num_chain_updates} and num_walk_updates={self.num_walk_updates}"
            )

        if self.whitening != "none" and not self.num_chain_updates:
            raise ValueError(f"whitening={self.whitening!r} needs draws of chains, got num_chain_updates=0")
        if self.num_restarts and not self.num_chain_updates:
            raise ValueError(f"num_restarts={self.num_restarts} needs chains to start again, got num_chain_updates=0")

    def shares(self) -> Tensor:
        """Shares alpha_k from the first step (noise) to the last (target), falling as a squared cosine, ``(K,)``."""
        grid = (torch.arange(self.num_steps, dtype=torch.float64) + 0.5) / self.num_steps
        shape = torch.cos(0.5 * math.pi * grid).square()
        # The second term keeps the last shares away from zero, where the weights would divide by them.
        return 1 - torch.exp(-self.decay * shape / shape.sum() - 0.5 / self.num_steps * (1 - grid))
