"""Networks, training objective and doctor, built from the resolved settings of each."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from drl_density.density.settings.checks import chosen
from drl_density.density.settings.networks import (
    ColumnNetwork,
    MLPNetwork,
    NetworkSettings,
    NoNetwork,
    ResidualNetwork,
    UNetNetwork,
)
from drl_density.density.settings.objectives import (
    KERNELS,
    AdjustedObjective,
    ContrastObjective,
    CooperativeObjective,
    DenoisingObjective,
    NormalObjective,
    ObjectiveSettings,
    PathObjective,
)
from drl_density.errors import DataError
from drl_density.networks import (
    MLP,
    ColumnTilt,
    ColumnTiltSettings,
    MLPSettings,
    NoTilt,
    ResidualEnergy,
    ResidualSettings,
    StepCalibrated,
    UNet,
    UNetEnergy,
    UNetEnergySettings,
    UNetSettings,
)
from drl_density.schedule import NoiseSchedule
from drl_density.training import (
    CooperativeRecovery,
    DenoisingScoreMatching,
    Doctor,
    LangevinChains,
    LangevinRecovery,
    LevelParticles,
    Objective,
    PathMatching,
    RecoveryLikelihood,
    ReferenceContrast,
)


class Networks(NamedTuple):
    """Modules of one sequence.

    Attributes:
        energy: Energy network.
        initializer: Network that proposes starts of chains; only cooperative training has one.
    """

    energy: nn.Module
    initializer: nn.Module | None


class StepCalibration(NamedTuple):
    """Constants of the papers' parametrisation.

    Attributes:
        factor: Factor b^2 of the Langevin step sizes.
        is_top_marginal: Whether the topmost level is a marginal density.
    """

    factor: float
    is_top_marginal: bool


@dataclass(frozen=True)
class TableNetworks:
    """Factory of energy networks over the columns of a table.

    Attributes:
        energy: Sizes of the network; None for the reference alone.
    """

    energy: MLPSettings | ColumnTiltSettings | None

    def build(self, schedule: NoiseSchedule, *, generator: torch.Generator | None) -> Networks:
        """New networks with random weights."""
        if self.energy is None:
            return Networks(NoTilt(), None)
        if isinstance(self.energy, ColumnTiltSettings):
            return Networks(ColumnTilt(self.energy, generator=generator), None)
        return Networks(MLP(self.energy, generator=generator), None)


@dataclass(frozen=True)
class ImageNetworks:
    """Factory of energy and initialiser networks over images.

    Attributes:
        shape: Channels, height and width of an image.
        energy: Sizes of the energy network.
        calibration: Constants by which the output is divided, or None.
        initializer: Sizes of the initialiser, or None.
    """

    shape: tuple[int, int, int]
    energy: ResidualSettings | UNetEnergySettings
    calibration: StepCalibration | None
    initializer: UNetSettings | None

    def build(self, schedule: NoiseSchedule, *, generator: torch.Generator | None) -> Networks:
        """New networks with random weights, for the levels of ``schedule``."""
        made = ResidualEnergy if isinstance(self.energy, ResidualSettings) else UNetEnergy
        energy: nn.Module = made(self.energy, generator=generator)  # pyright: ignore[reportArgumentType] # as chosen above
        if self.calibration is not None:
            alpha, step = schedule.langevin_steps(
                self.calibration.factor, is_top_marginal=self.calibration.is_top_marginal
            )
            energy = StepCalibrated(energy, schedule.log_snr[:-1], alpha, step)
        initializer = None if self.initializer is None else UNet(self.initializer, generator=generator)
        return Networks(energy, initializer)

    def thin(self, num_channels: int) -> ImageNetworks:
        """The same networks with at most ``num_channels`` channels in their first feature maps."""
        energy = dataclasses.replace(self.energy, num_channels=min(num_channels, self.energy.num_channels))
        initializer = self.initializer
        if initializer is not None:
            initializer = dataclasses.replace(initializer, num_channels=min(num_channels, initializer.num_channels))
        return dataclasses.replace(self, energy=energy, initializer=initializer)


NetworkFactory = TableNetworks | ImageNetworks
"""Factory of the networks of a fit."""


def network_factory(
    network: NetworkSettings, objective: ObjectiveSettings, schedule: NoiseSchedule, num_features: int
) -> NetworkFactory:
    """The factory of networks with resolved settings.

    Args:
        network: Resolved settings of the energy network.
        objective: Resolved settings of the objective, which may ask for an initialiser.
        schedule: Noise levels.
        num_features: Columns of the table.

    Raises:
        DataError: Images that cannot be folded and halved so often.
    """
    if isinstance(network, NoNetwork):
        return TableNetworks(None)
    if isinstance(network, MLPNetwork):
        return TableNetworks(
            MLPSettings(
                num_features,
                width=network.width,
                num_blocks=network.num_blocks,
                num_fourier_features=chosen(network.num_fourier_features, "network.num_fourier_features"),
                fourier_scale=network.fourier_scale,
                dropout=chosen(network.dropout, "network.dropout"),
            )
        )
    if isinstance(network, ColumnNetwork):
        return TableNetworks(
            ColumnTiltSettings(
                num_features,
                width=chosen(network.width, "network.width"),
                num_blocks=chosen(network.num_blocks, "network.num_blocks"),
                num_sigmoids=network.num_sigmoids,
                column_width=chosen(network.column_width, "network.column_width"),
                dropout=chosen(network.dropout, "network.dropout"),
            )
        )
    shape = chosen(network.shape, "network.shape")
    try:
        energy = _residual_sizes(network, schedule) if isinstance(network, ResidualNetwork) else _unet_sizes(network)
    except ValueError as error:
        raise DataError(f"network.multipliers or network.patch_size do not fit: {error}") from error
    calibration = None
    if network.is_step_calibrated and not isinstance(
        objective, AdjustedObjective | DenoisingObjective | ContrastObjective | PathObjective
    ):
        is_top_marginal = not isinstance(objective, NormalObjective)
        calibration = StepCalibration(objective.langevin_factor, is_top_marginal)
    initializer = None
    if isinstance(objective, CooperativeObjective):
        initializer = UNetSettings(
            shape,
            num_channels=objective.initializer_channels,
            multipliers=chosen(objective.initializer_multipliers, "objective.initializer_multipliers"),
            num_blocks=objective.initializer_blocks,
            num_classes=network.num_classes,
            starts_at_base=objective.initializer_starts_at_base,
        )
    return ImageNetworks(shape, energy, calibration, initializer)


def _residual_sizes(network: ResidualNetwork, schedule: NoiseSchedule) -> ResidualSettings:
    return ResidualSettings(
        chosen(network.shape, "network.shape"),
        num_channels=network.num_channels,
        multipliers=chosen(network.multipliers, "network.multipliers"),
        num_blocks=network.num_blocks,
        patch_size=network.patch_size,
        readout=network.readout,
        attention_sizes=network.attention_sizes,
        is_normalized=network.is_normalized,
        activation=network.activation,
        starts_at_zero=network.starts_at_zero,
        level_log_snr=tuple(schedule.log_snr[:-1].tolist()) if network.has_level_index else None,
        num_classes=network.num_classes,
    )


def _unet_sizes(network: UNetNetwork) -> UNetEnergySettings:
    return UNetEnergySettings(
        chosen(network.shape, "network.shape"),
        num_channels=network.num_channels,
        multipliers=chosen(network.multipliers, "network.multipliers"),
        num_blocks=network.num_blocks,
        num_middle_blocks=network.num_middle_blocks,
        patch_size=network.patch_size,
        num_classes=network.num_classes,
        dropout=chosen(network.dropout, "network.dropout"),
        has_linear_readout=network.has_linear_readout,
    )


def build_objective(settings: ObjectiveSettings) -> Objective:
    """The training objective with these settings."""
    if isinstance(settings, AdjustedObjective):
        return RecoveryLikelihood(
            num_steps=settings.num_chain_steps,
            kernel=KERNELS[settings.kernel],
            noisier_share=settings.noisier_share,
            jump=settings.jump,
            clean_share=settings.clean_share,
            classification_weight=settings.classification_weight,
            classification_share=settings.classification_share,
        )
    if isinstance(settings, ContrastObjective):
        return ReferenceContrast(settings.num_negatives, settings.clean_share)
    if isinstance(settings, PathObjective):
        return PathMatching(
            settings.increment_weight,
            settings.steps_per_level,
            settings.level_balance,
            settings.increments_from,
            LevelParticles(
                settings.particle_weight,
                settings.num_particles,
                settings.num_moved,
                settings.num_chain_steps,
                settings.renewed_share,
            ),
        )
    if isinstance(settings, DenoisingObjective):
        return DenoisingScoreMatching(
            settings.classification_weight, settings.classification_share, settings.level_balance
        )
    weight = settings.classification_weight
    if isinstance(settings, NormalObjective):
        chains = LangevinChains(factor=settings.langevin_factor, is_top_marginal=False)
        return LangevinRecovery(chains=chains, negatives="normal", classification_weight=weight)
    if isinstance(settings, CooperativeObjective):
        return CooperativeRecovery(chains=settings.chains, classification_weight=weight)
    return LangevinRecovery(
        chains=settings.chains,
        shares_noise=settings.shares_noise,
        level_shares=settings.level_shares,
        classification_weight=weight,
    )


def build_doctor(settings: ObjectiveSettings, schedule: NoiseSchedule) -> Doctor:
    """The training doctor for an objective.

    The papers' short chains end far from equilibrium, so their gaps in nats are large from the first step on. Their
    divergence shows in the gap of the raw output, which the squared step size turns into nats. Score matching has no chains;
    its loss is a positive number that falls.

    Args:
        settings: Settings of the objective.
        schedule: Noise levels, which determine the Langevin steps.
    """
    if isinstance(settings, AdjustedObjective):
        return Doctor()
    if isinstance(settings, ContrastObjective):  # its loss lies between 0 and 2 log 2: it cannot diverge
        return Doctor(max_loss_rise=math.inf)
    if isinstance(settings, PathObjective):  # squared increments of a few rows vary by orders of magnitude
        return Doctor(max_loss_rise=math.inf)
    if isinstance(settings, DenoisingObjective):
        return Doctor(max_loss_rise=math.inf, max_loss_ratio=1.5)
    _, step_size = schedule.langevin_steps(settings.langevin_factor)
    usual = 3.0  # nats a dimension, the doctor's limit for chains near equilibrium
    limits = tuple((usual / step_size.double() ** 2).tolist())
    return Doctor(max_gap_per_dimension=limits, max_loss_rise=math.inf)


@dataclass(frozen=True)
class StepCost:
    """What one training step computes, for the forecast of its time and memory.

    Attributes:
        chain_gradients: Gradients of the network along each training chain.
        classified_rows: Rows that are classified for each row of the batch.
        is_twice_differentiated: Whether the loss holds a gradient of the network itself.
    """

    chain_gradients: int
    classified_rows: float
    is_twice_differentiated: bool

    @classmethod
    def choose(cls, objective: ObjectiveSettings, num_levels: int) -> StepCost:
        """One gradient per chain step and one before the first; without chains, one in all.

        Args:
            objective: Settings of the objective.
            num_levels: Number of noise levels, all of which a classified row is placed on.
        """
        if isinstance(objective, ContrastObjective):
            return cls(1 + objective.num_negatives, 0.0, False)
        is_denoising = isinstance(objective, DenoisingObjective | PathObjective)
        has_chains = not isinstance(objective, DenoisingObjective | PathObjective | NormalObjective)
        share = objective.classification_share if isinstance(objective, AdjustedObjective | DenoisingObjective) else 1.0
        return cls(
            chain_gradients=objective.num_chain_steps + 1 if has_chains else 1,
            classified_rows=num_levels * share if objective.classification_weight else 0.0,
            is_twice_differentiated=is_denoising,
        )
