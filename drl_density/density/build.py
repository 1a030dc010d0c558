"""From resolved settings to models, objectives and training states."""

from __future__ import annotations

import torch

from drl_density.density.settings import FitSettings
from drl_density.density.table import Table
from drl_density.mcmc import HMC, MALA, ULA
from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings, NoisedGaussianMixture
from drl_density.training import RecoveryLikelihood, TrainingState, new_state

KERNELS = {"mala": MALA(), "hmc": HMC(num_leapfrog=3), "ula": ULA()}


def members_of(table: Table, settings: FitSettings) -> dict[str, NoisedGaussianMixture]:
    """The base of each member to train: every chosen base, ``num_networks`` times."""
    bases = table.bases.mixtures.items()
    return {f"{name}-{index}": base for name, base in bases for index in range(settings.num_networks)}


def build_model(settings: FitSettings, base: NoisedGaussianMixture, *, seed: int) -> EnergySequence:
    """A fresh sequence with resolved ``settings`` on the fixed ``base``."""
    num_features = base.num_features
    generator = torch.Generator().manual_seed(seed)
    sizes = MLPSettings(
        num_features,
        width=settings.width,
        num_blocks=settings.num_blocks,
        num_fourier_features=settings.num_fourier_features,
        fourier_scale=settings.fourier_scale,
        dropout=settings.dropout,
    )
    network = MLP(sizes, generator=generator)
    return EnergySequence(settings.noise_schedule(), network, (num_features,), base=base, generator=generator)


def build_objective(settings: FitSettings) -> RecoveryLikelihood:
    """The training objective of ``settings``."""
    return RecoveryLikelihood(
        num_steps=settings.num_chain_steps,
        kernel=KERNELS[settings.kernel],
        noisier_share=settings.noisier_share,
        jump=settings.jump,
        classification_weight=settings.classification_weight,
    )


def fresh_state(settings: FitSettings, base: NoisedGaussianMixture, *, seed: int) -> TrainingState:
    """A training state at step 0."""
    training = settings.training
    return new_state(
        build_model(settings, base, seed=seed),
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        average_decay=training.average_decay,
        seed=seed,
        step_size=0.8 if settings.chain_step_size is None else settings.chain_step_size,
    )
