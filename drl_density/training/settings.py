"""Settings of training: how long, how fast, and in which form the network computes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from drl_density.records.fields import (
    Chance,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveOrInfinite,
    check_fields,
)


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train, and in which form the network computes.

    Attributes:
        num_steps: number of gradient steps. After a short warm-up, the learning rate falls to zero over them along half a
            cosine, unless ``decay`` keeps it constant.
        batch_size: number of rows per gradient step.
        learning_rate: peak learning rate of AdamW.
        weight_decay: decoupled weight decay of AdamW.
        average_decay: decay per step of the exponential moving average of the weights.
        max_gradient_norm: norm to which longer gradients are scaled down.
        warmup_steps: number of steps over which the learning rate rises to its peak.
        decay: "cosine", or "constant" to keep the peak rate after the warm-up.
        first_moment_decay: decay beta_1 of AdamW's mean of gradients.
        second_moment_decay: decay beta_2 of AdamW's mean of squared gradients.
        evaluate_every: number of steps between evaluations.
        patience: number of evaluations without a better score after which training stops early.
        num_shards: number of shards of a batch, each with its own rows and noise; at least the number of processes.
            Gradients are summed over the shards of a process (gradient accumulation) and over the processes of
            ``torchrun``. Results depend on this number, and on the number of processes only by rounding.
        precision: "bfloat16" runs learning passes and unadjusted chains of the network under autocast. Adjusted chains,
            evaluations, samplers and estimators keep full precision.
        is_channels_last: whether convolutions store channels innermost.
        is_compiled: whether ``torch.compile`` compiles the network.
        is_graphed: whether chains replay their passes from CUDA graphs on a CUDA device; results are the same.
        is_checkpointed: whether the backward pass recomputes activations instead of storing them.
        has_sharded_weights: whether processes shard weights, moments, averages and kept states among themselves (FSDP2)
            instead of each holding a copy; has no effect on one process.

    Raises:
        ValueError: a number of another type or out of its range, shards that do not divide the batch, a misspelt choice,
            or sharded weights together with an option that needs them in one place.

    >>> settings = TrainingSettings(num_steps=1000, warmup_steps=10)
    >>> settings.rate(9) > settings.rate(500) > settings.rate(999)
    True
    """

    num_steps: PositiveInt = 2000
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 2e-3
    weight_decay: NonNegativeFloat = 1e-3
    average_decay: Chance = 0.995
    max_gradient_norm: PositiveOrInfinite = 1.0
    evaluate_every: PositiveInt = 100
    patience: PositiveInt = 6
    num_shards: PositiveInt = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    is_channels_last: bool = False
    is_compiled: bool = False
    is_graphed: bool = False
    is_checkpointed: bool = False
    has_sharded_weights: bool = False
    warmup_steps: NonNegativeInt = 100
    decay: Literal["cosine", "constant"] = "cosine"
    first_moment_decay: Chance = 0.9
    second_moment_decay: Chance = 0.99

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch_size % self.num_shards:
            raise ValueError(
                f"num_shards must divide batch_size, got num_shards={self.num_shards} and batch_size={self.batch_size}"
            )
        for name in ("is_compiled", "is_graphed", "is_channels_last"):
            if self.has_sharded_weights and getattr(self, name):
                raise ValueError(
                    f"has_sharded_weights moves weights in memory, and {name} needs them to stay in place: switch one of "
                    "them off"
                )

    def rate(self, step: int) -> float:
        """Learning rate at a step.

        Args:
            step: number of gradient steps done before it.
        """
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.decay == "constant":
            return self.learning_rate * warmup
        return self.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * min(step / self.num_steps, 1.0)))
