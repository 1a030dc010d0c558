"""Networks that map a point and its log signal-to-noise ratio to one number, and the layers they are made of.

:mod:`drl_density.networks.contract` states what an energy sequence expects of its network. A network is a function of the
continuous log-SNR alone: levels, step sizes and temperatures belong to the sequence. :class:`UNet` is the exception with an
output of the shape of ``x``; it proposes starting points of chains in cooperative training.
"""

from drl_density.networks.column_tilt import ColumnTilt, ColumnTiltSettings
from drl_density.networks.contract import (
    Checkpointable,
    DeclaresBound,
    DeclaresGrowth,
    DeclaresIntegrability,
    NoTilt,
    checkpointable_modules,
)
from drl_density.networks.ensemble import Ensemble
from drl_density.networks.images.residual import MULTIPLIERS, ResidualEnergy, ResidualSettings
from drl_density.networks.images.unet import UNet, UNetSettings
from drl_density.networks.images.unet_energy import UNetEnergy, UNetEnergySettings
from drl_density.networks.label_guidance import LabelSum, combine_labels, guide_by_label
from drl_density.networks.mlp import MLP, MLPSettings
from drl_density.networks.normalizers import LogNormalizers, MeanNormalizers
from drl_density.networks.spectral_norm import (
    SpectralWeight,
    frozen_power_iteration,
    held_weights,
    settle_power_iteration,
)
from drl_density.networks.step_calibrated import StepCalibrated

__all__ = [
    "MLP",
    "MULTIPLIERS",
    "Checkpointable",
    "ColumnTilt",
    "ColumnTiltSettings",
    "DeclaresBound",
    "DeclaresGrowth",
    "DeclaresIntegrability",
    "Ensemble",
    "LabelSum",
    "LogNormalizers",
    "MLPSettings",
    "MeanNormalizers",
    "NoTilt",
    "ResidualEnergy",
    "ResidualSettings",
    "SpectralWeight",
    "StepCalibrated",
    "UNet",
    "UNetEnergy",
    "UNetEnergySettings",
    "UNetSettings",
    "checkpointable_modules",
    "combine_labels",
    "frozen_power_iteration",
    "guide_by_label",
    "held_weights",
    "settle_power_iteration",
]
