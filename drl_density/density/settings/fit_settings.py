"""Settings of a fit: every choice, checked when made, and the automatic choices that depend on the data."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from drl_density.density.settings.checks import chosen
from drl_density.density.settings.networks import (
    NETWORKS,
    ColumnNetwork,
    ImageNetwork,
    MLPNetwork,
    NoNetwork,
    ResidualNetwork,
    UNetNetwork,
)
from drl_density.density.settings.normalizing_sizes import NormalizingSizes
from drl_density.density.settings.objectives import (
    OBJECTIVES,
    AdjustedObjective,
    ContrastObjective,
    CooperativeObjective,
    DenoisingObjective,
    LangevinObjective,
    NormalObjective,
    ObjectiveSettings,
    PathObjective,
)
from drl_density.density.settings.presets import find_preset
from drl_density.density.settings.recovery import RecoverySettings
from drl_density.density.settings.schedules import SCHEDULES, CosineSchedule, LinearBetaSchedule, LogSpacedSchedule
from drl_density.density.settings.table_rules import NUM_TRIALS, fold_training
from drl_density.records.fields import NonNegativeInt, PositiveInt, check_fields
from drl_density.training import TrainingSettings

__all__ = ["FitSettings"]


@dataclass(frozen=True)
class FitSettings:
    """Every choice of a fit; those left at None are made from the data, and printed.

    Attributes:
        objective: Training objective with its own settings. None takes the contrast with the base where the network is a
            :class:`ColumnNetwork`, :class:`NoNetwork` or not given, else the adjusted chains of recovery likelihood.
        network: Energy network with its own settings: :class:`ColumnNetwork` or an MLP for tables, a residual network or a
            U-Net for images, or :class:`NoNetwork` for the reference alone. None takes a :class:`ColumnNetwork` for the
            contrast objective, else an MLP.
        schedule: Noise levels with their own settings.
        training: Number of steps, learning rate, and patience.
        recovery: Second stage after a contrast, by recovery likelihood; off by default, see :class:`RecoverySettings`.
        transform: Map from data to model space; "auto" chooses by the type and bounds of the columns.
        base: Fixed, normalised part of the energies, fitted to the data. "reference" takes the one that scores best on
            validation: independent columns, a Gaussian, single mixtures, a mixture of factor analysers ("factors"), or an
            average of many bagged mixtures ("stack"). "auto" is "reference" for the contrast objective; for others it fits
            a Gaussian and the best single mixture, and trains on both. "autoregressive", for images of whole numbers, takes
            the better of "factors" and an autoregressive density, which is used on level 0 alone.
        num_networks: Networks trained from different seeds on every base. Validation decides whether one of them or the
            average of all energies is kept.
        num_folds: Folds into which the rows of a small table are divided. For each fold a network is trained on the other
            rows, and the fold decides when to stop. The average of these networks is added to a reference fitted to all
            rows, validation rows included. 1 trains on the training rows alone. None takes 5 for the contrast objective with
            its usual reference, below 3,000 rows and up to 40 columns, if the rows can be divided freely, else 1.
        num_trials: Further networks that are tried once the first has passed its best score on validation: of another size,
            with more dropout, and with a shorter schedule. The best of all is kept. None takes 3 for the contrast objective
            without folds, if network and training have their defaults, else 0.
        selection: "likelihood" keeps the weights and the level that score best on validation by an annealed log Z.
            "last" keeps the last averaged weights, as the papers do.
        num_validation_rows: Validation rows scored at every evaluation. None takes 256 images, or between 1,024 and 8,192
            rows of a table.
        num_particles: Particles of each replicate of the annealing that normalises the density at the end.
        num_pool_draws: Draws that are kept with the density.

    Raises:
        ValueError: A misspelt literal; counts that are too small; labels for a network or an objective without them; a
            cooperative objective without images; score matching of a compiled network.

    >>> settings = FitSettings(schedule=LogSpacedSchedule(num_levels=6)).resolve(500, (3,), 0.1)
    >>> settings.schedule
    LogSpacedSchedule(num_levels=6, sigma_min=0.03, sigma_max=0.995)
    >>> FitSettings(selection="best")
    Traceback (most recent call last):
        ...
    ValueError: selection must be one of 'likelihood', 'last', got 'best'
    """

    objective: (
        AdjustedObjective
        | LangevinObjective
        | NormalObjective
        | CooperativeObjective
        | DenoisingObjective
        | ContrastObjective
        | PathObjective
    ) = cast(Any, None)  # chosen when made
    network: MLPNetwork | ColumnNetwork | ResidualNetwork | UNetNetwork | NoNetwork = cast(
        Any, None
    )  # chosen when made
    schedule: LogSpacedSchedule | LinearBetaSchedule | CosineSchedule = field(default_factory=LogSpacedSchedule)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    transform: Literal["auto", "histogram", "gaussianize", "standardize", "logit", "rescale"] = "auto"
    base: Literal[
        "auto", "reference", "autoregressive", "factors", "stack", "mixture", "gaussian", "independent", "quadratic"
    ] = "auto"
    num_networks: PositiveInt = 1
    num_folds: PositiveInt | None = None
    num_trials: NonNegativeInt | None = None
    selection: Literal["likelihood", "last"] = "likelihood"
    num_validation_rows: PositiveInt | None = None
    num_particles: PositiveInt = 512
    num_pool_draws: PositiveInt = 2000

    def __post_init__(self) -> None:
        if self.objective is None:
            is_bounded = self.network is None or isinstance(self.network, ColumnNetwork | NoNetwork)
            object.__setattr__(self, "objective", ContrastObjective() if is_bounded else AdjustedObjective())
        if self.network is None:
            object.__setattr__(self, "network", _usual_network(self.objective))
        check_fields(self)
        objective, network = self.objective, self.network
        if network.num_classes and not isinstance(objective, CooperativeObjective | DenoisingObjective):
            raise ValueError(
                f"network.num_classes={network.num_classes}: only the cooperative and the denoising objective learn "
                f'labels, got "{objective.kind}"; use a preset that ends in _cdrl or _denoising, or fit a density to each '
                "class"
            )
        if isinstance(objective, CooperativeObjective) and not self.is_over_images:
            raise ValueError(
                "the cooperative objective trains an initialiser over images: use ResidualNetwork or UNetNetwork, or "
                "another objective"
            )
        if isinstance(objective, CooperativeObjective):
            objective.check_base(self.base)
        if isinstance(network, ImageNetwork) and network.is_step_calibrated and self.langevin_factor is None:
            raise ValueError(
                f'is_step_calibrated divides by Langevin steps, which the objective "{objective.kind}" does not have: '
                "leave it out, or use the langevin, normal or cooperative objective"
            )
        if isinstance(objective, ContrastObjective):
            if not isinstance(network, ColumnNetwork | NoNetwork):
                raise ValueError(
                    f'the contrast objective needs a bounded network, got "{network.kind}": use ColumnNetwork '
                    "(--network columns)"
                )
            if self.base == "quadratic":
                raise ValueError("the contrast objective needs a base fitted to the data, got the quadratic one")
        if (self.num_folds or 1) > 1:
            if not isinstance(objective, ContrastObjective):
                raise ValueError(f'num_folds: only the contrast objective is trained in folds, got "{objective.kind}"')
            if self.num_networks > 1 or self.selection == "last" or self.base_kind != "reference":
                raise ValueError(
                    "folds choose their own networks and reference: leave num_networks, selection and base as they are"
                )
        if self.num_trials and ((self.num_folds or 1) > 1 or not self.may_search):
            raise ValueError(
                "num_trials: other networks are tried for the contrast of one network that is chosen by its likelihood, "
                "without folds or recovery: leave num_trials out"
            )
        if self.recovery.is_on and (self.num_folds or 1) > 1:
            raise ValueError("recovery refines a single network: leave num_folds or recovery.is_on out")
        if self.recovery.is_on and (not isinstance(objective, ContrastObjective) or self.selection == "last"):
            raise ValueError(
                "recovery follows a contrast and is kept by its validation likelihood: use ContrastObjective with "
                'selection="likelihood", or leave recovery.is_on out'
            )
        if isinstance(objective, DenoisingObjective | PathObjective) and self.training.is_compiled:
            raise ValueError(
                "the denoising objective differentiates twice, which torch.compile does not support: leave out "
                "training.is_compiled"
            )

    @classmethod
    def preset(cls, name: str) -> FitSettings:
        """The settings of a preset; see :mod:`drl_density.density.settings.presets`.

        Args:
            name: Name as given to ``--preset``, such as ``cifar10``.

        Raises:
            ValueError: An unknown name; the message lists the known ones.

        >>> FitSettings.preset("cifar10").objective.num_chain_steps
        30
        """
        return cls.from_dict(find_preset(name).values())

    def with_kinds(
        self, *, objective: str | None = None, network: str | None = None, schedule: str | None = None
    ) -> FitSettings:
        """These settings with another kind of objective, network or schedule; fields that both kinds have are kept.

        Args:
            objective: Kind of objective, such as "denoising"; unchanged when None.
            network: Kind of network, such as "unet"; unchanged when None.
            schedule: Kind of schedule, such as "cosine"; unchanged when None.

        Raises:
            ValueError: An unknown kind, or kinds that do not go together.

        >>> FitSettings(network=MLPNetwork(num_blocks=3)).with_kinds(network="unet").network.num_blocks
        3
        """
        asked = {"objective": objective, "network": network, "schedule": schedule}
        parts = {
            name: _with_kind(name, getattr(self, name), kind)
            for name, kind in asked.items()
            if kind not in (None, getattr(self, name).kind)
        }
        # What was not asked for and is the usual choice stays the usual choice.
        if "objective" in parts and network is None and self.network == _usual_network(self.objective):
            parts["network"] = None
        if "network" in parts and objective is None and self == FitSettings(network=self.network):
            parts["objective"] = None
        return dataclasses.replace(self, **parts)

    @property
    def base_kind(self) -> str:
        """Kind of base to fit, with "auto" resolved for the contrast objective."""
        return "reference" if self.base == "auto" and isinstance(self.objective, ContrastObjective) else self.base

    @property
    def is_over_images(self) -> bool:
        """Whether the network is one over images."""
        return isinstance(self.network, ImageNetwork)

    @property
    def langevin_factor(self) -> float | None:
        """Factor b^2 of the objective's Langevin steps, or None for an objective without them."""
        if isinstance(self.objective, AdjustedObjective | DenoisingObjective | ContrastObjective | PathObjective):
            return None
        return self.objective.langevin_factor

    @property
    def may_fold(self) -> bool:
        """Whether small tables are fitted in folds by these settings."""
        return self.num_folds != 1 and not self.num_trials and self.may_search and self.base_kind == "reference"

    @property
    def may_search(self) -> bool:
        """Whether further networks may be tried: for the contrast of one network that nothing refines."""
        is_usual = self.num_networks == 1 and self.selection == "likelihood" and not self.recovery.is_on
        is_contrast = isinstance(self.objective, ContrastObjective) and isinstance(self.network, ColumnNetwork)
        return is_contrast and is_usual

    def resolve(
        self, num_rows: int, event_shape: tuple[int, ...], sigma_min: float, *, num_folds: int = 1
    ) -> FitSettings:
        """These settings with every None replaced by a choice for data of this size.

        Args:
            num_rows: Number of training rows.
            event_shape: Shape of one data point, ``(d,)`` for a table.
            sigma_min: Noise of level 0 that the fixed base suggests.
            num_folds: Number of folds into which the rows are divided. More than one replace every training setting that
                has its default by that of :data:`~drl_density.density.settings.table_rules.FOLD_TRAINING`.

        Raises:
            DataError: A network over images for data that are no images, or images of another shape.
            ValueError: Shares for another number of levels than the schedule has.
        """
        network, objective = self.network.resolve(num_rows, event_shape), self.objective
        schedule, num_validation = self.schedule.resolve(math.prod(event_shape), sigma_min), self.num_validation_rows
        if isinstance(objective, LangevinObjective):
            objective.check_levels(chosen(schedule.num_levels, "schedule.num_levels"))
        if isinstance(network, ImageNetwork):
            num_validation = num_validation or 256
            if isinstance(objective, CooperativeObjective):
                objective = objective.resolve(min(chosen(network.shape, "network.shape")[1:]))
        return dataclasses.replace(
            self,
            objective=objective,
            network=network,
            schedule=schedule,
            training=self.training if num_folds == 1 else fold_training(self.training),
            num_folds=num_folds,
            num_trials=self._trials(num_folds),
            num_validation_rows=num_validation,
        )

    def _trials(self, num_folds: int) -> int:
        """Number of trials, chosen where none is given."""
        if self.num_trials is not None:
            return self.num_trials
        is_usual = self.network == ColumnNetwork() and self.training == TrainingSettings()
        is_searched = is_usual and self.may_search and self.base_kind == "reference" and num_folds == 1
        return NUM_TRIALS if is_searched else 0

    def normalizing_sizes(self) -> NormalizingSizes:
        """Sizes of the computation that normalises a density with these resolved settings."""
        num_levels = chosen(self.schedule.num_levels, "schedule.num_levels")
        return NormalizingSizes.choose(
            num_levels, self.num_particles, self.num_pool_draws, is_over_images=self.is_over_images
        )

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values for ``settings.json``; objective, network and schedule carry their ``kind``."""
        values = dataclasses.asdict(self)
        for name in _KINDS:
            values[name] = {"kind": getattr(self, name).kind, **values[name]}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FitSettings:
        """The inverse of :meth:`to_dict`; what is left out keeps its default.

        Args:
            values: Nested plain values, as :meth:`to_dict` returns them.

        Raises:
            ValueError: An unknown kind, a name that the settings of this kind do not have, or a value that is refused.

        >>> FitSettings.from_dict({"objective": {"kind": "normal"}}).objective
        NormalObjective(langevin_factor=0.0002, classification_weight=1.0)
        """
        parts = dict(_mapping("settings", values))
        kinds = _kinds({name: _mapping(name, parts[name]) for name in _KINDS if name in parts})
        for name in _KINDS:
            if name in parts:
                parts[name] = _part(name, kinds[name], parts[name])
        if "training" in parts:
            parts["training"] = _made("training", TrainingSettings, parts["training"])
        if "recovery" in parts:
            parts["recovery"] = _recovery(parts["recovery"])
        return _made("settings", cls, parts)


_KINDS: dict[str, dict[str, Any]] = {"objective": OBJECTIVES, "network": NETWORKS, "schedule": SCHEDULES}


def _usual_network(objective: ObjectiveSettings) -> ColumnNetwork | MLPNetwork:
    return ColumnNetwork() if isinstance(objective, ContrastObjective) else MLPNetwork()


def _kinds(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The kind of each nested part: as given, or the usual one beside those that are."""
    given = {name: values["kind"] for name, values in parts.items() if "kind" in values}
    is_contrast = given.get("network", ColumnNetwork.kind) in (ColumnNetwork.kind, NoNetwork.kind)
    usual = {"objective": (ContrastObjective if is_contrast else AdjustedObjective).kind}
    is_contrast = given.get("objective", usual["objective"]) == ContrastObjective.kind
    usual["network"] = (ColumnNetwork if is_contrast else MLPNetwork).kind
    return {**usual, "schedule": LogSpacedSchedule.kind, **given}


def _with_kind(name: str, part: Any, kind: str) -> Any:
    """Settings of another kind with the chosen values of the fields that both have."""
    made = _find_kind(name, kind)
    shared = {field.name for field in dataclasses.fields(made)} & {field.name for field in dataclasses.fields(part)}
    given = {field: getattr(part, field) for field in shared}
    return made(**{field: value for field, value in given.items() if value is not None})


def _find_kind(name: str, kind: str) -> Any:
    if kind not in _KINDS[name]:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, _KINDS[name]))}, got {kind!r}")
    return _KINDS[name][kind]


def _part(name: str, kind: str, values: Mapping[str, Any]) -> Any:
    """One nested part from its plain values."""
    return _made(name, _find_kind(name, kind), {key: value for key, value in values.items() if key != "kind"})


def _recovery(values: Any) -> RecoverySettings:
    """The second stage from its plain values, whose objective has no kind."""
    given = dict(_mapping("recovery", values))
    if "objective" in given:
        given["objective"] = _made("recovery.objective", AdjustedObjective, given["objective"])
    return _made("recovery", RecoverySettings, given)


def _mapping(name: str, values: Any) -> Mapping[str, Any]:
    """The values themselves.

    Raises:
        ValueError: Something other than values by name.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} must be values by name, got {values!r}")
    return values


def _made(name: str, kind: Any, values: Any) -> Any:
    """Settings of one kind from values by field.

    Raises:
        ValueError: A field that this kind does not have; the message lists those that it has.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for key in _mapping(name, values):
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
            raise ValueError(f"{name} of class {kind.__name__} has no field {key!r}: {hint}")
    return kind(**values)
