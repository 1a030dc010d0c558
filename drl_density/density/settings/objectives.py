"""Settings of the training objectives, one class each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from drl_density.density.settings.checks import check_least, check_share
from drl_density.records.literals import check_literals
from drl_density.training.objectives.classification import check_share as check_classification_share

__all__ = [
    "OBJECTIVES",
    "AdjustedObjective",
    "CooperativeObjective",
    "DenoisingObjective",
    "LangevinObjective",
    "NormalObjective",
    "ObjectiveSettings",
]


@dataclass(frozen=True)
class AdjustedObjective:
    """Recovery likelihood with chains that carry a Metropolis test: the default objective of this package.

    Trains ``RecoveryLikelihood``.

    Attributes:
        num_chain_steps: Kernel steps of each training chain.
        kernel: Transition kernel of the training chains; "ula" leaves the Metropolis test out.
        chain_step_size: First step size, in units of the conditional's standard deviation. Adjusted kernels adapt it.
        noisier_share: Share of the training chains that start at the noisier state rather than at the data.
        jump: Number of levels between a state and the noisier state that its chain is conditioned on.
        classification_weight: Factor of the noise-level classification loss, which learns the constants between levels.
        classification_share: Share of every batch that is classified.

    Raises:
        ValueError: Counts below 1, shares outside their interval, or an unknown kernel.

    >>> AdjustedObjective(kernel="mara")
    Traceback (most recent call last):
        ...
    ValueError: kernel must be one of 'mala', 'hmc', 'ula', got 'mara'
    """

    kind: ClassVar[str] = "adjusted"

    num_chain_steps: int = 4
    kernel: Literal["mala", "hmc", "ula"] = "mala"
    chain_step_size: float = 0.8
    noisier_share: float = 0.0
    jump: int = 1
    classification_weight: float = 1.0
    classification_share: float = 1.0

    def __post_init__(self) -> None:
        check_literals(self)
        check_least(self, num_chain_steps=1, jump=1, classification_weight=0)
        check_share(self, "noisier_share")
        check_classification_share(self.classification_share)


@dataclass(frozen=True)
class LangevinObjective:
    """Recovery likelihood with prescribed Langevin steps, as in setting T6 of the paper.

    Trains ``LangevinRecovery``. Source: Gao et al. 2021, algorithm 1.

    Attributes:
        num_chain_steps: Kernel steps of each training chain; the paper takes 30.
        kernel: Transition kernel of the training chains; the paper's is "ula".
        langevin_factor: Factor b^2 of the step sizes, as in ``NoiseSchedule.langevin_steps``.
        classification_weight: Factor of the noise-level classification loss; the paper has none.

    Raises:
        ValueError: Counts below 1, a factor that is not positive, or an unknown kernel.
    """

    kind: ClassVar[str] = "langevin"

    num_chain_steps: int = 4
    kernel: Literal["mala", "hmc", "ula"] = "mala"
    langevin_factor: float = 2e-4
    classification_weight: float = 1.0

    def __post_init__(self) -> None:
        check_literals(self)
        check_least(self, num_chain_steps=1, classification_weight=0)
        _check_factor(self.langevin_factor)


@dataclass(frozen=True)
class NormalObjective:
    """Recovery likelihood with the normal approximation of each conditional, as in setting T1k of the paper.

    Trains ``LangevinRecovery`` without chains, which is accurate for schedules of many short
    steps. Source: Gao et al. 2021, section 3.2.

    Attributes:
        langevin_factor: Factor b^2 of the step sizes, which weigh the loss, as in
            ``NoiseSchedule.langevin_steps``.
        classification_weight: Factor of the noise-level classification loss; the paper has none.

    Raises:
        ValueError: A factor that is not positive.
    """

    kind: ClassVar[str] = "normal"

    langevin_factor: float = 2e-4
    classification_weight: float = 1.0

    def __post_init__(self) -> None:
        check_least(self, classification_weight=0)
        _check_factor(self.langevin_factor)


@dataclass(frozen=True)
class CooperativeObjective:
    """Recovery likelihood together with an initialiser network that proposes the start of every chain.

    Trains ``CooperativeRecovery``; requires a network over images. Source: Zhu et al. 2024,
    "Learning Energy-Based Models by Cooperative Diffusion Recovery Likelihood".

    Attributes:
        num_chain_steps: Kernel steps of each training chain; the paper takes 15.
        kernel: Transition kernel of the training chains; the paper's is "ula".
        langevin_factor: Factor b^2 of the step sizes, as in ``NoiseSchedule.langevin_steps``.
        classification_weight: Factor of the noise-level classification loss; the paper has none.
        initializer_channels: Channels of the initialiser U-Net's first feature map.
        initializer_multipliers: Multiples of these channels at each resolution; None chooses them from the image size.
        initializer_blocks: Residual blocks of the initialiser at each resolution.
        initializer_rate: Learning rate of the initialiser, as a multiple of the energy's.

    Raises:
        ValueError: Negative or zero sizes, a factor or rate that is not positive, or an unknown kernel.
    """

    kind: ClassVar[str] = "cooperative"

    num_chain_steps: int = 4
    kernel: Literal["mala", "hmc", "ula"] = "mala"
    langevin_factor: float = 2e-4
    classification_weight: float = 1.0
    initializer_channels: int = 64
    initializer_multipliers: tuple[int, ...] | None = None
    initializer_blocks: int = 3
    initializer_rate: float = 0.1

    def __post_init__(self) -> None:
        check_literals(self)
        check_least(self, num_chain_steps=0, classification_weight=0, initializer_channels=1, initializer_blocks=1)
        _check_factor(self.langevin_factor)
        if not self.initializer_rate > 0:
            raise ValueError(f"initializer_rate must be positive, got {self.initializer_rate}")

    def resolve(self, side: int) -> CooperativeObjective:
        """These settings with the multipliers chosen for images whose shorter side has ``side`` pixels.

        The initialiser halves its resolution up to twice, as long as eight pixels remain and the side stays even.
        """
        if self.initializer_multipliers is not None:
            return self
        halvings = 0
        while halvings < 2 and side % 2 ** (halvings + 1) == 0 and side >= 2 ** (halvings + 3):
            halvings += 1
        return dataclasses.replace(self, initializer_multipliers=(1,) * (halvings + 1))


@dataclass(frozen=True)
class DenoisingObjective:
    """Denoising score matching against the fixed base, which needs no chains.

    Trains ``DenoisingScoreMatching``.

    Attributes:
        level_balance: Exponent from 0 to 1 that raises the weight of noisier levels, whose losses are smaller.
        classification_weight: Factor of the noise-level classification loss, which learns the constants between levels.
        classification_share: Share of every batch that is classified.

    Raises:
        ValueError: A balance or share outside its interval.
    """

    kind: ClassVar[str] = "denoising"

    level_balance: float = 0.0
    classification_weight: float = 1.0
    classification_share: float = 1.0

    def __post_init__(self) -> None:
        check_least(self, classification_weight=0)
        check_share(self, "level_balance")
        check_classification_share(self.classification_share)


ObjectiveSettings = AdjustedObjective | LangevinObjective | NormalObjective | CooperativeObjective | DenoisingObjective
"""Settings of any objective."""

OBJECTIVES: dict[str, type[ObjectiveSettings]] = {
    made.kind: made
    for made in (AdjustedObjective, LangevinObjective, NormalObjective, CooperativeObjective, DenoisingObjective)
}
"""Classes by the name that saved settings and presets give them."""


def _check_factor(factor: float) -> None:
    if not factor > 0:
        raise ValueError(f"langevin_factor must be positive, got {factor}")
