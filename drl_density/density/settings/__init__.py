"""Settings of a fit, each checked when it is made, and the presets that fill them."""

from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.settings.networks import ColumnNetwork, MLPNetwork, NoNetwork, ResidualNetwork, UNetNetwork
from drl_density.density.settings.objectives import (
    AdjustedObjective,
    ContrastObjective,
    CooperativeObjective,
    DenoisingObjective,
    LangevinObjective,
    NormalObjective,
    PathObjective,
)
from drl_density.density.settings.recovery import RecoverySettings
from drl_density.density.settings.schedules import CosineSchedule, LinearBetaSchedule, LogSpacedSchedule

__all__ = [
    "AdjustedObjective",
    "ColumnNetwork",
    "ContrastObjective",
    "CooperativeObjective",
    "CosineSchedule",
    "DenoisingObjective",
    "FitSettings",
    "LangevinObjective",
    "LinearBetaSchedule",
    "LogSpacedSchedule",
    "MLPNetwork",
    "NoNetwork",
    "NormalObjective",
    "PathObjective",
    "RecoverySettings",
    "ResidualNetwork",
    "UNetNetwork",
]
