"""Settings of training: how long, how fast, and in which form the network computes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from drl_density.records.literals import check_literals


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train.

    Attributes:
        num_steps: gradient steps; the learning rate falls to zero over them as a half cosine after a short warm-up,
            unless it is to stay constant.
        batch_size: rows per step.
        learning_rate: peak rate of AdamW.
        weight_decay: of AdamW.
        average_decay: of the exponential moving average of weights.
        max_gradient_norm: gradients are scaled down to it.
        warmup_steps: steps over which the rate rises to its peak.
        decay: "cosine", or "constant" after the warm-up.
        first_moment_decay: beta_1 of AdamW.
        second_moment_decay: beta_2.
        evaluate_every: steps between evaluations.
        patience: evaluations without a better score before stopping early.
        num_shards: pieces of the batch with their own rows and noise, whose gradients are added up one after the other
            (gradient accumulation) and over the processes of ``torchrun``; at least as many as there are processes. The
            run depends on this number, and on the number of processes by rounding alone.
        precision: "bfloat16" runs learning passes and unadjusted chains of the network under autocast; adjusted chains,
            evaluations, samplers and estimators stay in full precision.
        is_channels_last: convolutions keep channels innermost.
        is_compiled: the network is compiled by ``torch.compile``.
        is_graphed: chains replay their passes from CUDA graphs, on a CUDA device; results are the same.
        is_checkpointed: the network computes activations again on the way back in place of keeping them.
        has_sharded_weights: several processes cut weights, moments, averages and kept states among them (FSDP2) in place of
            holding a copy each; without effect on one process.

    Raises:
        ValueError: counts or rates that are not positive, an average_decay outside [0, 1), shards that do not
            divide the batch, or sharded weights together with what needs them in one place.

    >>> settings = TrainingSettings(num_steps=1000, warmup_steps=10)
    >>> settings.rate(9) > settings.rate(500) > settings.rate(999)
    True
    """

    num_steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    average_decay: float = 0.995
    max_gradient_norm: float = 1.0
    evaluate_every: int = 100
    patience: int = 6
    num_shards: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    is_channels_last: bool = False
    is_compiled: bool = False
    is_graphed: bool = False
    is_checkpointed: bool = False
    has_sharded_weights: bool = False
    warmup_steps: int = 100
    decay: Literal["cosine", "constant"] = "cosine"
    first_moment_decay: float = 0.9
    second_moment_decay: float = 0.99

    def __post_init__(self) -> None:
        check_literals(self)
        for name in ("num_steps", "batch_size", "evaluate_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0 or not 0 <= self.average_decay < 1:
            raise ValueError(
                f"need learning_rate > 0 and average_decay in [0, 1), got {self.learning_rate} and {self.average_decay}"
            )
        if self.num_shards < 1 or self.batch_size % self.num_shards:
            raise ValueError(
                f"num_shards must divide batch_size, got num_shards={self.num_shards} and batch_size={self.batch_size}"
            )
        for name in ("is_compiled", "is_graphed", "is_channels_last"):
            if self.has_sharded_weights and getattr(self, name):
                raise ValueError(
                    f"has_sharded_weights moves weights about, and {name} needs them to stand still: switch one of them off"
                )

    def rate(self, step: int) -> float:
        """Learning rate at a step.

        Args:
            step: gradient steps done before it.
        """
        warmup = min(1.0, (step + 1) / self.warmup_steps)
        if self.decay == "constant":
            return self.learning_rate * warmup
        return self.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * min(step / self.num_steps, 1.0)))
