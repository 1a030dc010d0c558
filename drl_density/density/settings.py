"""Settings of a fit, and the automatic choices that depend on the table's size."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from drl_density.training import TrainingSettings


@dataclass(frozen=True)
class FitSettings:
    """Every choice of a fit; None means chosen from the size of the data and printed.

    Attributes:
        transform: "auto", "gaussianize", "standardize" or "logit".
        num_levels: T.
        sigma_min: noise of level 0 in units of the transformed columns, below the spread along the narrowest axis of the
            data; which of the lowest levels is reported is chosen on validation.
        sigma_max: noise of the topmost level.
        width: hidden units.
        num_blocks: residual blocks.
        num_networks: networks trained from different seeds whose energies are averaged.
        num_fourier_features: random Fourier features of the input.
        fourier_scale: standard deviation of their frequencies.
        dropout: share of hidden units dropped while training.
        num_chain_steps: kernel steps per training pair.
        noisier_share: share of training chains started at the noisier state.
        classification_weight: factor of the noise-level classification.
        training: steps, rates and patience.
        num_pool_draws: draws kept with the density.
    """

    transform: str = "auto"
    num_levels: int | None = None
    sigma_min: float | None = None
    sigma_max: float = 0.995
    width: int | None = None
    num_blocks: int = 2
    num_networks: int = 1
    num_fourier_features: int | None = None
    fourier_scale: float | None = None
    dropout: float | None = None
    num_chain_steps: int = 6
    noisier_share: float = 0.0
    classification_weight: float = 1.0
    training: TrainingSettings = field(default_factory=TrainingSettings)
    num_pool_draws: int = 2000

    def resolve(self, num_rows: int, covariance: Tensor) -> FitSettings:
        """The same settings with every None replaced by a choice for a table of this size and covariance."""
        is_plane = len(covariance) <= 3
        narrowest = float(torch.linalg.eigvalsh(covariance)[0]) ** 0.5
        sigma_min = self.sigma_min or (0.03 if is_plane else max(0.02, min(0.1, 0.7 * narrowest)))
        extra_levels = 0 if is_plane else max(0, math.ceil(math.log(0.1 / sigma_min) / 0.46))
        chosen = {
            "sigma_min": sigma_min,
            "num_levels": 10 + extra_levels,
            "width": 128,
            "num_fourier_features": 64 if is_plane else 0,
            "fourier_scale": 2.0,
            "dropout": 0.0 if num_rows >= 5000 else 0.1 if num_rows >= 300 else 0.3,
        }
        return dataclasses.replace(self, **{k: v for k, v in chosen.items() if getattr(self, k) is None})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``settings.json``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FitSettings:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**values, "training": TrainingSettings(**values["training"])})
