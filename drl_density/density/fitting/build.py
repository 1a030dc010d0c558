"""From resolved settings to models, objectives and training states."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from drl_density.bases import Base
from drl_density.density.fitting.batches import LabelledBatches, label_values, mirrored
from drl_density.density.fitting.table import Table
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.mcmc import HMC, MALA, ULA
from drl_density.model import EnergySequence
from drl_density.networks import (
    MLP,
    MLPSettings,
    ResidualEnergy,
    StepCalibrated,
    UNet,
    UNetEnergy,
    UNetSettings,
)
from drl_density.schedule import NoiseSchedule
from drl_density.training import (
    Batches,
    CooperativeRecovery,
    DenoisingScoreMatching,
    Doctor,
    LangevinChains,
    LangevinRecovery,
    Objective,
    RecoveryLikelihood,
    TrainingState,
    new_state,
)

KERNELS = {"mala": MALA(), "hmc": HMC(num_leapfrog=3), "ula": ULA()}


def members_of(table: Table, settings: FitSettings) -> dict[str, Base]:
    """The base of each member to train: every chosen base, ``num_networks`` times."""
    bases = table.bases.mixtures.items()
    return {f"{name}-{index}": base for name, base in bases for index in range(settings.num_networks)}


def build_model(settings: FitSettings, base: Base, *, seed: int) -> EnergySequence:
    """A fresh sequence with resolved ``settings`` on a copy of the fixed ``base``."""
    num_features, base = base.num_features, copy.deepcopy(base)
    generator = torch.Generator().manual_seed(seed)
    schedule = settings.noise_schedule()
    if settings.is_over_images:
        network, initializer = build_image_networks(settings, schedule, generator)
        return EnergySequence(
            schedule, network, (num_features,), base=base, initializer=initializer, generator=generator
        )
    sizes = MLPSettings(
        num_features,
        width=settings.width,
        num_blocks=settings.num_blocks,
        num_fourier_features=settings.num_fourier_features,
        fourier_scale=settings.fourier_scale,
        dropout=settings.dropout,
    )
    network = MLP(sizes, generator=generator)
    return EnergySequence(schedule, network, (num_features,), base=base, generator=generator)


def build_objective(settings: FitSettings) -> Objective:
    """The training objective of ``settings``."""
    if settings.objective == "denoising":
        return DenoisingScoreMatching(
            settings.classification_weight, settings.classification_share, settings.level_balance
        )
    if settings.objective != "adjusted":
        chains = LangevinChains(
            num_steps=settings.num_chain_steps,
            factor=settings.langevin_factor,
            is_top_marginal=settings.objective != "normal",
            kernel=KERNELS[settings.kernel],
        )
        weight = settings.classification_weight
        if settings.objective == "cooperative":
            return CooperativeRecovery(chains=chains, classification_weight=weight)
        negatives = "normal" if settings.objective == "normal" else "langevin"
        return LangevinRecovery(chains=chains, negatives=negatives, classification_weight=weight)
    return RecoveryLikelihood(
        num_steps=settings.num_chain_steps,
        kernel=KERNELS[settings.kernel],
        noisier_share=settings.noisier_share,
        jump=settings.jump,
        classification_weight=settings.classification_weight,
        classification_share=settings.classification_share,
    )


def build_doctor(settings: FitSettings) -> Doctor:
    """The training doctor of ``settings``.

    The papers' short chains end far from equilibrium, so their gaps in nats are large from the first step on; what tells
    of a run-away there is the gap of the raw output, which the squared step size turns into nats. Score matching has no
    chains; its loss is a positive number that falls.
    """
    if settings.objective == "adjusted":
        return Doctor()
    if settings.objective == "denoising":
        return Doctor(max_loss_rise=math.inf, max_loss_ratio=1.5)
    _, step_size = settings.noise_schedule().langevin_steps(settings.langevin_factor)
    limits = tuple((Doctor.max_gap_per_dimension / step_size.double() ** 2).tolist())
    return Doctor(max_gap_per_dimension=limits, max_loss_rise=math.inf)


def training_batches(table: Table, settings: FitSettings) -> Batches:
    """Where training rows come from: the table, with labels and mirrored where ``settings`` ask for it."""
    is_mirrored = settings.is_over_images and settings.images.flips
    if settings.images.num_classes:
        values = label_values(table.dataset, settings.images.num_classes)
        return LabelledBatches(table, values, settings.images.shape if is_mirrored else None)
    return mirrored(table.batches, settings.images.shape) if is_mirrored else table.batches


def fresh_state(
    settings: FitSettings,
    base: Base,
    *,
    seed: int,
    device: torch.device | None = None,
) -> TrainingState:
    """A training state at step 0, with its model on ``device``."""
    training = settings.training
    return new_state(
        build_model(settings, base, seed=seed).to(device),
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        average_decay=training.average_decay,
        moment_decays=(training.first_moment_decay, training.second_moment_decay),
        initializer_rate=settings.images.initializer_rate,
        seed=seed,
        step_size=0.8 if settings.chain_step_size is None else settings.chain_step_size,
    )


def build_image_networks(
    settings: FitSettings, schedule: NoiseSchedule, generator: torch.Generator | None
) -> tuple[nn.Module, nn.Module | None]:
    """(energy, initialiser or None) of resolved ``settings``."""
    images = settings.images
    level_log_snr = tuple(schedule.log_snr[:-1].tolist()) if images.has_level_index else None
    network: nn.Module
    if settings.network == "unet":
        network = UNetEnergy(images.unet_sizes(settings.dropout or 0.0), generator=generator)
    else:
        network = ResidualEnergy(images.residual_sizes(level_log_snr), generator=generator)
    if images.is_step_calibrated:
        step_alpha, step_size = schedule.langevin_steps(
            settings.langevin_factor, is_top_marginal=settings.objective != "normal"
        )
        network = StepCalibrated(network, schedule.log_snr[:-1], step_alpha, step_size)
    if settings.objective != "cooperative":
        return network, None
    initializer = UNetSettings(
        images.shape,
        num_channels=images.initializer_channels,
        multipliers=images.initializer_multipliers,
        num_blocks=images.initializer_blocks,
        num_classes=images.num_classes,
    )
    return network, UNet(initializer, generator=generator)
