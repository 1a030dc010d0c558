"""Settings of the training objectives, one class each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from drl_density.mcmc import HMC, MALA, ULA, Kernel
from drl_density.records.fields import (
    Interval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
    check_fields,
)
from drl_density.training import LangevinChains

__all__ = [
    "KERNELS",
    "OBJECTIVES",
    "AdjustedObjective",
    "ContrastObjective",
    "CooperativeObjective",
    "DenoisingObjective",
    "LangevinObjective",
    "NormalObjective",
    "ObjectiveSettings",
    "PathObjective",
]

KERNELS: dict[str, Kernel] = {"mala": MALA(), "hmc": HMC(num_leapfrog=3), "ula": ULA()}
"""Kernels of the training chains; three leapfrog steps cost about as much as the rest of a training step."""


@dataclass(frozen=True)
class AdjustedObjective:
    """Recovery likelihood with chains that carry a Metropolis test: the default with networks other than columns.

    Trains ``RecoveryLikelihood``.

    Attributes:
        num_chain_steps: Kernel steps of each training chain.
        kernel: Transition kernel of the training chains; "ula" leaves the Metropolis test out.
        chain_step_size: First step size, in units of the conditional's standard deviation. Adjusted kernels adapt it.
        noisier_share: Share of the training chains that start at the noisier state rather than at the data.
        jump: Number of levels between a state and the noisier state that its chain is conditioned on.
        classification_weight: Factor of the noise-level classification loss, which learns the constants between levels.
        classification_share: Share of every batch that is classified.
        clean_share: Share of the rows on level 0. Unless it is 0, these rows are without noise, as they are in the contrast.
            With 0, all levels have equal shares, and rows of level 0 have its noise.

    Raises:
        ValueError: Counts below 1, shares outside their interval, or an unknown kernel.

    >>> AdjustedObjective(kernel="mara")
    Traceback (most recent call last):
        ...
    ValueError: kernel must be one of 'mala', 'hmc', 'ula', got 'mara'
    """

    kind: ClassVar[str] = "adjusted"

    num_chain_steps: PositiveInt = 4
    kernel: Literal["mala", "hmc", "ula"] = "mala"
    chain_step_size: PositiveFloat = 0.8
    noisier_share: Share = 0.0
    jump: PositiveInt = 1
    classification_weight: NonNegativeFloat = 1.0
    classification_share: Annotated[float, Interval(0, 1, is_low_open=True)] = 1.0
    clean_share: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class LangevinObjective:
    """Recovery likelihood with prescribed Langevin steps, as in setting T6 of the paper.

    Trains ``LangevinRecovery``. Source: Gao et al. 2021, algorithm 1.

    Attributes:
        num_chain_steps: Kernel steps of each training chain; the paper takes 30.
        kernel: Transition kernel of the training chains; the paper's is "ula".
        langevin_factor: Factor b^2 of the step sizes, as in ``NoiseSchedule.langevin_steps``.
        classification_weight: Factor of the noise-level classification loss; the paper has none.
        weights: Weights of the levels in the loss. "paper" is meant for networks that are ``is_step_calibrated``. "nats"
            weighs all levels alike, as other networks need: with the weights of the paper they hardly learn clean levels.
        scaling: What a squared step is the factor of: "paper" or "conditional", as in ``LangevinChains``.
        shares_noise: Whether both states of a pair come from one noise. That keeps the mean of the gradient and lowers its
            variance (Zhu et al. 2024); the first paper draws a noise for each.
        level_shares: Relative share of the rows at each noise level, from the cleanest on; None for equal shares, as in the
            paper.

    Raises:
        ValueError: Counts below 1, a factor that is not positive, or an unknown kernel.
    """

    kind: ClassVar[str] = "langevin"

    num_chain_steps: PositiveInt = 4
    kernel: Literal["mala", "hmc", "ula"] = "mala"
    langevin_factor: PositiveFloat = 2e-4
    classification_weight: NonNegativeFloat = 1.0
    weights: Literal["paper", "nats"] = "paper"
    scaling: Literal["paper", "conditional"] = "paper"
    shares_noise: bool = False
    level_shares: tuple[PositiveFloat, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def chains(self) -> LangevinChains:
        """The chains of training."""
        return _chains(self)

    def check_levels(self, num_levels: int) -> None:
        """Check that the shares, if there are any, are those of so many noise levels.

        Args:
            num_levels: Number of levels of the schedule.

        Raises:
            ValueError: Another number of shares.
        """
        if self.level_shares is not None and len(self.level_shares) != num_levels:
            raise ValueError(
                f"expected one of objective.level_shares for each of {num_levels} noise levels, got "
                f"{len(self.level_shares)}: give as many, or change schedule.num_levels"
            )


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

    langevin_factor: PositiveFloat = 2e-4
    classification_weight: NonNegativeFloat = 1.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class CooperativeObjective:
    """Recovery likelihood together with an initialiser network that proposes the start of every chain.

    Trains ``CooperativeRecovery``; requires a network over images. Source: Zhu et al. 2024,
    "Learning Energy-Based Models by Cooperative Diffusion Recovery Likelihood".

    Attributes:
        num_chain_steps: Kernel steps of each training chain; the paper takes 15.
        kernel: Transition kernel of the training chains; the paper's is "ula".
        langevin_factor: Factor b^2 of the step sizes, as in ``NoiseSchedule.langevin_steps``. The paper's 4e-4 is meant for
            networks that are ``is_step_calibrated``. Others need steps of a fair share of the conditional's width, 0.03 for
            six levels down to a noise of 0.1. Chains that hardly move leave the initialiser with nothing to learn.
        classification_weight: Factor of the noise-level classification loss; the paper has none.
        weights: Weights of the levels in the loss. "paper" is meant for networks that are ``is_step_calibrated``. "nats"
            weighs all levels alike, as other networks need: with the weights of the paper they hardly learn clean levels.
        scaling: What a squared step is the factor of: "paper" or "conditional", as in ``LangevinChains``.
        initializer_channels: Channels of the initialiser U-Net's first feature map.
        initializer_multipliers: Multiples of these channels at each resolution; None takes those of the image size.
        initializer_blocks: Residual blocks of the initialiser at each resolution.
        initializer_rate: Learning rate of the initialiser, as a multiple of the energy's.
        initializer_starts_at_base: Whether the initialiser shifts exact draws of the base's recovery conditionals. With a
            mixture as the base, even the first proposals resemble the data.

    Raises:
        ValueError: Negative or zero sizes, a factor or rate that is not positive, or an unknown kernel.
    """

    kind: ClassVar[str] = "cooperative"

    num_chain_steps: NonNegativeInt = 4
    kernel: Literal["mala", "hmc", "ula"] = "mala"
    langevin_factor: PositiveFloat = 2e-4
    classification_weight: NonNegativeFloat = 1.0
    weights: Literal["paper", "nats"] = "paper"
    scaling: Literal["paper", "conditional"] = "paper"
    initializer_channels: PositiveInt = 64
    initializer_multipliers: tuple[PositiveInt, ...] | None = None
    initializer_blocks: PositiveInt = 3
    initializer_rate: PositiveFloat = 0.1
    initializer_starts_at_base: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def chains(self) -> LangevinChains:
        """The chains of training, which start at proposals."""
        return _chains(self)

    def check_base(self, base: str) -> None:
        """Check that proposals can start at a base of this kind, if they are to.

        Args:
            base: Kind of the base, as in :class:`drl_density.FitSettings`.

        Raises:
            ValueError: A base whose recovery conditionals are not known.
        """
        known = ("factors", "stack", "mixture", "gaussian", "independent")
        if self.initializer_starts_at_base and base not in known:
            raise ValueError(
                "initializer_starts_at_base needs a base whose recovery conditionals are known: give "
                f'base={" or ".join(known)}, got "{base}"'
            )

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

    level_balance: Share = 0.0
    classification_weight: NonNegativeFloat = 1.0
    classification_share: Annotated[float, Interval(0, 1, is_low_open=True)] = 1.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ContrastObjective:
    """Logistic contrast of the data with draws of the fixed base, which needs no chains.

    Trains ``ReferenceContrast``. Weights are selected by a validation score whose log Z is known at every evaluation, by
    importance sampling from the base.

    Attributes:
        num_negatives: Draws of the base for every data row.
        clean_share: Share of every batch on level 0, whose density is the one that is reported.
        num_samples: Draws of the base that estimate log Z at every evaluation.

    Raises:
        ValueError: Counts below 1, or a share outside (0, 1].
    """

    kind: ClassVar[str] = "contrast"
    classification_weight: ClassVar[float] = 0.0

    num_negatives: PositiveInt = 1
    clean_share: Annotated[float, Interval(0, 1, is_low_open=True)] = 0.7
    num_samples: PositiveInt = 50_000

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class PathObjective:
    """Denoising score matching against the fixed base, with path increments and particles of level 0.

    Increments make neighbouring levels agree, and particles find the mass of level 0 that no row visits. Trains
    ``PathMatching``. Once both count in full, the weights with the least validation loss are kept. The tilt is reported
    where its validation likelihood exceeds that of the untouched base at the upper end of the interval of log Z.

    Attributes:
        increment_weight: Factor of the squared increments, for each nat squared.
        steps_per_level: Steps of the path for each noise level.
        level_balance: Exponent from 0 to 1 that raises the weight of noisier levels in score matching.
        increments_from: Share of the training after which the increments and the particles join in. Before it the scores
            are learned alone.
        particle_weight: Factor of the mean tilt of the particles less that of rows, both in nats; 0 for no particles.
        num_particles: Particles of level 0 that are kept.
        num_moved: Particles that each training step moves, at most ``num_particles``.
        num_chain_steps: Adjusted Langevin steps of each moved particle.
        renewed_share: Share of the moved particles that start again, half at rows and half at draws of the base.

    Raises:
        ValueError: A negative weight, counts below 1, more moved particles than there are, or a balance or a share outside
            its range.
    """

    kind: ClassVar[str] = "paths"
    classification_weight: ClassVar[float] = 0.0

    increment_weight: NonNegativeFloat = 0.3
    steps_per_level: PositiveInt = 4
    level_balance: Share = 0.5
    increments_from: Share = 0.5
    particle_weight: NonNegativeFloat = 4.0
    num_particles: PositiveInt = 256
    num_moved: PositiveInt = 32
    num_chain_steps: PositiveInt = 4
    renewed_share: Annotated[float, Interval(0, 1, is_high_open=True)] = 0.02

    def __post_init__(self) -> None:
        check_fields(self)
        if self.num_moved > self.num_particles:
            raise ValueError(f"cannot move {self.num_moved} of {self.num_particles} particles: lower num_moved")


ObjectiveSettings = (
    AdjustedObjective
    | LangevinObjective
    | NormalObjective
    | CooperativeObjective
    | DenoisingObjective
    | ContrastObjective
    | PathObjective
)
"""Settings of any objective."""

OBJECTIVES: dict[str, type[ObjectiveSettings]] = {
    made.kind: made
    for made in get_args(ObjectiveSettings)
}
"""Classes by the name that saved settings and presets give them."""


def _chains(settings: LangevinObjective | CooperativeObjective) -> LangevinChains:
    """The chains that these settings train with."""
    return LangevinChains(
        num_steps=settings.num_chain_steps,
        factor=settings.langevin_factor,
        kernel=KERNELS[settings.kernel],
        weights=settings.weights,
        scaling=settings.scaling,
    )
