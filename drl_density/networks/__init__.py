"""Scalar networks over a point and its log signal-to-noise ratio.

The contract: ``network(x, log_snr) -> (batch,)`` for ``x`` of shape ``(batch, *event)`` and ``log_snr`` of shape
``(batch,)``, or ``()`` when all rows share one level (the cheap case of sampling). A network
knows nothing of levels, steps or temperature, and has an attribute ``has_bounded_growth`` that
says whether its output grows at most linearly in |x|, which is what makes exp(quadratic base + network) integrable.
A network with labels takes them as a third argument. The initialiser's output has the shape of ``x``.
"""

from drl_density.networks.guidance import Composed, composed, guided
from drl_density.networks.mlp import MLP, Ensemble, MLPSettings
from drl_density.networks.residual import MULTIPLIERS, ResidualEnergy, ResidualSettings
from drl_density.networks.spectral_norm import (
    SpectralWeight,
    frozen_power_iteration,
    held_weights,
    settle_power_iteration,
)
from drl_density.networks.step_calibrated import StepCalibrated
from drl_density.networks.unet import UNet, UNetSettings
from drl_density.networks.unet_energy import UNetEnergy, UNetEnergySettings

__all__ = [
    "MLP",
    "MULTIPLIERS",
    "Composed",
    "Ensemble",
    "MLPSettings",
    "ResidualEnergy",
    "ResidualSettings",
    "SpectralWeight",
    "StepCalibrated",
    "UNet",
    "UNetEnergy",
    "UNetEnergySettings",
    "UNetSettings",
    "composed",
    "frozen_power_iteration",
    "guided",
    "held_weights",
    "settle_power_iteration",
]
