"""Settings of a fit, and the automatic choices that depend on the table's size."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from drl_density.density.settings.image_settings import ImageSettings
from drl_density.density.settings.presets import find_preset
from drl_density.errors import DataError
from drl_density.records.literals import check_literals
from drl_density.schedule import NoiseSchedule
from drl_density.training import TrainingSettings
from drl_density.training.objectives.classification import check_share

LABELLED = ("cooperative", "denoising")
"""Objectives that learn the energies of labels."""


@dataclass(frozen=True)
class FitSettings:
    """Every choice of a fit; None means chosen from the size of the data and printed.

    Attributes:
        transform: "auto", "gaussianize", "standardize", "logit" or "rescale".
        base: fixed part of the energies: "auto", "mixture", "gaussian", "independent" or "quadratic"; see
            :func:`~drl_density.density.fitting.bases.choose_bases`.
        schedule: "log_spaced", the paper's "linear_beta" or the "cosine" of its successor; see :meth:`noise_schedule`.
        num_levels: T.
        sigma_min: noise of level 0 in units of the transformed columns, the widest that costs the base nothing on
            validation; which of the lowest levels is reported is chosen on validation too. "linear_beta" and "cosine"
            have their own.
        sigma_max: noise of the topmost level.
        width: hidden units.
        num_blocks: residual blocks.
        num_networks: networks trained from different seeds on every base; whether one of them or the average of all energies
            is kept, validation decides.
        num_fourier_features: random Fourier features of the input.
        fourier_scale: standard deviation of their frequencies.
        dropout: share of hidden units dropped while training: 0 from 5000 rows on; below, 0.3 for fewer than 300 rows or
            30 rows per column, else 0.1. Network "residual" has none.
        num_chain_steps: kernel steps per training pair.
        kernel: of the training chains: "mala", "hmc" or the paper's "ula".
        chain_step_size: its step size to begin with, in units of the conditional's scale; adjusted kernels adapt it.
        noisier_share: share of training chains started at the noisier state.
        jump: levels between a state and the noisier one that its chain is conditioned on.
        classification_weight: factor of the noise-level classification.
        classification_share: share of every batch that is classified, for the objectives "adjusted" and "denoising".
        level_balance: of objective "denoising": how much more than their nats the noisier levels count, see
            :class:`~drl_density.training.DenoisingScoreMatching`.
        network: "mlp", or over images "residual" (the papers') or "unet"; see ``images``.
        objective: "adjusted" (this package's), "denoising" (score matching), or the papers' "langevin" (T6), "normal" (T1k)
            and "cooperative" (CDRL).
        langevin_factor: b^2 of the papers' step sizes.
        selection: "likelihood" keeps the weights and the level that score best on validation by an annealed log Z; "last"
            keeps the last averaged weights, as the papers do.
        num_particles: of each replicate of the annealing that normalises the density at the end.
        images: choices of networks over images.
        training: steps, rates and patience.
        num_pool_draws: draws kept with the density.

    Raises:
        ValueError: counts that are too small, a dropout, classification_share or level_balance that is no share, an
            unknown schedule, score matching of a compiled network, or noise levels given to one that has its own.

    >>> settings = FitSettings(num_levels=6).resolve(500, 3, 0.1)
    >>> settings.num_levels, settings.sigma_min
    (6, 0.03)
    """

    transform: Literal["auto", "gaussianize", "standardize", "logit", "rescale"] = "auto"
    base: Literal["auto", "mixture", "gaussian", "independent", "quadratic"] = "auto"
    schedule: Literal["log_spaced", "linear_beta", "cosine"] = "log_spaced"
    num_levels: int | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    width: int | None = None
    num_blocks: int = 2
    num_networks: int = 1
    num_fourier_features: int | None = None
    fourier_scale: float | None = None
    dropout: float | None = None
    num_chain_steps: int = 4
    kernel: Literal["mala", "hmc", "ula"] = "mala"
    chain_step_size: float | None = None
    noisier_share: float = 0.0
    jump: int = 1
    classification_weight: float = 1.0
    classification_share: float = 1.0
    level_balance: float = 0.0
    training: TrainingSettings = field(default_factory=TrainingSettings)
    num_pool_draws: int = 2000
    network: Literal["mlp", "residual", "unet"] = "mlp"
    objective: Literal["adjusted", "denoising", "langevin", "normal", "cooperative"] = "adjusted"
    langevin_factor: float = 2e-4
    selection: Literal["likelihood", "last"] = "likelihood"
    num_particles: int = 512
    images: ImageSettings = field(default_factory=ImageSettings)

    @classmethod
    def preset(cls, name: str) -> FitSettings:
        """The settings of a preset; see :mod:`drl_density.density.settings.presets`.

        Args:
            name: such as ``cifar10``.

        Raises:
            ValueError: for an unknown name.

        >>> FitSettings.preset("cifar10").num_chain_steps
        30
        """
        chosen = find_preset(name)
        values = chosen.values()
        images = {"shape": chosen.image_shape, **values.pop("images", {})}
        training = TrainingSettings(**values.pop("training", {}))
        return cls(**values, training=training, images=ImageSettings(**images))

    @property
    def is_over_images(self) -> bool:
        """Whether the network is one over images."""
        return self.network != "mlp"

    @property
    def has_learned_constants(self) -> bool:
        """Whether training fits the constants between levels."""
        return self.classification_weight > 0

    def __post_init__(self) -> None:
        check_literals(self)
        least = {"num_levels": 1, "width": 1, "num_blocks": 1, "num_networks": 1, "jump": 1, "num_pool_draws": 1}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and given < value:
                raise ValueError(f"{name} must be at least {value}, got {given}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        check_share(self.classification_share)
        if not 0 <= self.level_balance <= 1:
            raise ValueError(f"level_balance must lie in [0, 1], got {self.level_balance}")
        if self.objective == "denoising" and self.training.is_compiled:
            raise ValueError(
                'objective "denoising" differentiates twice, which torch.compile does not support: leave out '
                "training.is_compiled"
            )

    def resolve(
        self, num_rows: int, num_features: int, sigma_min: float, *, event_shape: tuple[int, ...] = ()
    ) -> FitSettings:
        """The same settings with every None replaced by a choice for a table of this size.

        Args:
            num_rows: training rows.
            num_features: d.
            sigma_min: noise of level 0 that the base suggests.
            event_shape: of one point, for networks over images.

        Raises:
            DataError: a network over images for events that are none, labels for an objective that takes none, or dropout
                for a network that has none.
        """
        # Saved settings of earlier versions are resolved, know the images' shape and name a dropout that played no part.
        if self.network == "residual" and self.dropout and self.images.shape is None:
            raise DataError(
                f'dropout={self.dropout}: the papers\' network "residual" drops no features; use network "unet", or leave '
                "dropout out"
            )
        if self.images.num_classes and not self.is_over_images:
            raise DataError(
                f"images.num_classes={self.images.num_classes}: labels are told to networks over images, got network "
                f'"{self.network}"; use "residual" or "unet", or make the label a column of the table'
            )
        if self.images.num_classes and self.objective not in LABELLED:
            raise DataError(
                f'images.num_classes={self.images.num_classes}: labels are learned by objectives "cooperative" and '
                f'"denoising", got "{self.objective}"; use a preset that ends in _cdrl or _denoising, or fit a density to '
                "each class"
            )
        is_plane = num_features <= 3
        dropout = 0.0 if num_rows >= 5000 else 0.3 if num_rows < max(300, 30 * num_features) else 0.1
        chosen = {
            **self._chosen_levels(0.03 if is_plane else sigma_min, is_plane=is_plane),
            "width": 128,
            "num_fourier_features": 64 if is_plane else 0,
            "fourier_scale": 2.0,
            "dropout": 0.0 if self.network == "residual" else dropout,
        }
        choices = {k: v for k, v in chosen.items() if getattr(self, k) is None}
        if self.is_over_images:
            choices["images"] = self.images.resolve(event_shape)
        return dataclasses.replace(self, **choices)

    def _chosen_levels(self, sigma_min: float, *, is_plane: bool) -> dict[str, Any]:
        """Number of levels and their ends: from the data for "log_spaced", else those of the schedule's own paper."""
        if self.schedule == "log_spaced":
            sigma_min = self.sigma_min or sigma_min
            extra_levels = 0 if is_plane else max(0, math.ceil(math.log(0.1 / sigma_min) / 0.46))
            return {"sigma_min": sigma_min, "sigma_max": 0.995, "num_levels": 10 + extra_levels}
        sigma = dataclasses.replace(self, num_levels=self.num_levels or 6).noise_schedule().sigma
        return {"sigma_min": float(sigma[0]), "sigma_max": float(sigma[-1]), "num_levels": len(sigma) - 1}

    def noise_schedule(self) -> NoiseSchedule:
        """The noise levels of resolved settings.

        "log_spaced" runs from ``sigma_min`` to ``sigma_max``. "linear_beta" takes base steps of the linear-beta chain:
        with ``num_levels`` 6 exactly those of the paper's T6 setting, otherwise evenly spread over the thousand.
        "cosine" runs over the log-SNRs of CDRL, 9.8 to -5.1.

        Raises:
            ValueError: for an unknown schedule, or ends given to a schedule that has its own.

        >>> FitSettings(schedule="linear_beta", num_levels=6).noise_schedule() == NoiseSchedule.linear_beta()
        True
        """
        if self.schedule == "log_spaced":
            return NoiseSchedule.log_spaced(self.num_levels, sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        makers = {"linear_beta": _linear_beta, "cosine": NoiseSchedule.cosine}
        if self.schedule not in makers:
            raise ValueError(f"schedule must be one of log_spaced, {', '.join(makers)}, got {self.schedule!r}")
        made = makers[self.schedule](self.num_levels)
        ends = (float(made.sigma[0]), float(made.sigma[-1]))
        for name, own in zip(("sigma_min", "sigma_max"), ends, strict=True):
            if getattr(self, name) not in (None, own):
                raise ValueError(
                    f"{name} belongs to the log_spaced schedule; {self.schedule} runs from {ends[0]:.3g} to {ends[1]:.6g}: "
                    f"leave {name} out, or choose log_spaced"
                )
        return made

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``settings.json``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FitSettings:
        """The inverse of :meth:`to_dict`.

        Args:
            values: plain values, by name.
        """
        parts = {"training": TrainingSettings(**values["training"])}
        if "images" in values:
            parts["images"] = ImageSettings.from_dict(values["images"])
        return cls(**{**values, **parts})


def _linear_beta(num_levels: int) -> NoiseSchedule:
    if num_levels == 6:
        return NoiseSchedule.linear_beta()
    if not 1 <= num_levels <= 999:
        raise ValueError(f"linear_beta has 1 to 999 levels, got num_levels={num_levels}")
    return NoiseSchedule.linear_beta([round(999 * index / num_levels) for index in range(num_levels + 1)])
