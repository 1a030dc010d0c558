"""Settings of the noise levels, one class for each kind of schedule."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from drl_density.density.settings.checks import chosen
from drl_density.records.fields import Interval, PositiveInt, check_fields
from drl_density.schedule import NoiseSchedule

__all__ = ["SCHEDULES", "CosineSchedule", "LinearBetaSchedule", "LogSpacedSchedule", "ScheduleSettings"]


@dataclass(frozen=True)
class LogSpacedSchedule:
    """Noise levels spread evenly in the log signal-to-noise ratio between two ends.

    Attributes:
        num_levels: Number of levels T. None takes 10, and one more for each factor of 1.6 that ``sigma_min`` lies below
            0.1 in more than three columns.
        sigma_min: Noise of level 0, in units of the transformed columns. None takes 0.03 in up to three columns, and
            otherwise the widest noise that costs the fixed base nothing on validation.
        sigma_max: Noise of the topmost level.

    Raises:
        ValueError: No level, or ends that are not ordered between 0 and 1.

    >>> LogSpacedSchedule(num_levels=4).resolve(2, 0.1).noise_schedule().num_levels
    4
    """

    kind: ClassVar[str] = "log_spaced"

    num_levels: PositiveInt | None = None
    sigma_min: float | None = None
    sigma_max: float = 0.995

    def __post_init__(self) -> None:
        check_fields(self)
        lower = self.sigma_max if self.sigma_min is None else self.sigma_min
        if not 0 < lower <= self.sigma_max < 1 or self.sigma_min == self.sigma_max:
            raise ValueError(
                f"need 0 < sigma_min < sigma_max < 1, got sigma_min={self.sigma_min} and sigma_max={self.sigma_max}"
            )

    def resolve(self, num_features: int, sigma_min: float) -> LogSpacedSchedule:
        """These settings with every None replaced by the choice for so many columns.

        Args:
            num_features: Columns of the table, or pixels of an image.
            sigma_min: Noise of level 0 that the fixed base suggests.
        """
        is_plane = num_features <= 3
        lowest = self.sigma_min or (0.03 if is_plane else sigma_min)
        # Ten levels reach down to 0.1; below, levels keep about the same distance, 0.46 in log sigma.
        extra = 0 if is_plane else max(0, math.ceil(math.log(0.1 / lowest) / 0.46))
        return dataclasses.replace(self, sigma_min=lowest, num_levels=self.num_levels or 10 + extra)

    def noise_schedule(self) -> NoiseSchedule:
        """The noise levels of resolved settings.

        Raises:
            ValueError: Settings that still hold None.
        """
        return NoiseSchedule.log_spaced(
            chosen(self.num_levels, "schedule.num_levels"),
            sigma_min=chosen(self.sigma_min, "schedule.sigma_min"),
            sigma_max=self.sigma_max,
        )


@dataclass(frozen=True)
class LinearBetaSchedule:
    """Noise levels taken from the thousand steps of the linear-beta chain.

    With 6 levels they are exactly those of the paper's setting T6, otherwise they are spread evenly over the thousand steps.
    Source: Gao et al. 2021.

    Attributes:
        num_levels: Number of levels T, from 1 to 999.

    Raises:
        ValueError: A number of levels outside 1 to 999.

    >>> LinearBetaSchedule().noise_schedule() == NoiseSchedule.linear_beta()
    True
    """

    kind: ClassVar[str] = "linear_beta"

    num_levels: Annotated[int, Interval(1, 999)] = 6

    def __post_init__(self) -> None:
        check_fields(self)

    def resolve(self, num_features: int, sigma_min: float) -> LinearBetaSchedule:
        """These settings, which do not depend on the data.

        Args:
            num_features: Number of columns; it has no effect.
            sigma_min: Noise that the fixed base suggests; it has no effect.
        """
        return self

    def noise_schedule(self) -> NoiseSchedule:
        """The noise levels."""
        if self.num_levels == 6:
            return NoiseSchedule.linear_beta()
        steps = [round(999 * index / self.num_levels) for index in range(self.num_levels + 1)]
        return NoiseSchedule.linear_beta(steps)


@dataclass(frozen=True)
class CosineSchedule:
    """Noise levels of cooperative diffusion recovery likelihood, over log signal-to-noise ratios from 9.8 to -5.1.

    Source: Zhu et al. 2024.

    Attributes:
        num_levels: Number of levels T.

    Raises:
        ValueError: No level.
    """

    kind: ClassVar[str] = "cosine"

    num_levels: PositiveInt = 6

    def __post_init__(self) -> None:
        check_fields(self)

    def resolve(self, num_features: int, sigma_min: float) -> CosineSchedule:
        """These settings, which do not depend on the data.

        Args:
            num_features: Number of columns; it has no effect.
            sigma_min: Noise that the fixed base suggests; it has no effect.
        """
        return self

    def noise_schedule(self) -> NoiseSchedule:
        """The noise levels."""
        return NoiseSchedule.cosine(self.num_levels)


ScheduleSettings = LogSpacedSchedule | LinearBetaSchedule | CosineSchedule
"""Settings of any schedule."""

SCHEDULES: dict[str, type[ScheduleSettings]] = {
    made.kind: made for made in (LogSpacedSchedule, LinearBetaSchedule, CosineSchedule)
}
"""Classes by the name that saved settings and presets give them."""
