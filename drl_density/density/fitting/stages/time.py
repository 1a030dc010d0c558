"""The time that the stages of a fit may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Ends(NamedTuple):
    """Values of ``time.monotonic()`` at which the stages of a member end, or None without a limit.

    Attributes:
        contrast: End of the first stage.
        refinement: End of the refinement.
    """

    contrast: float | None
    refinement: float | None


@dataclass(frozen=True)
class Budget:
    """Time that training may take.

    Attributes:
        deadline: Value of ``time.monotonic()`` at which training stops, or None without a limit.
        training_seconds: Forecast of the time of training, or None where none was made.
        refining_seconds: Time kept for the refinement of each member; None without a limit.
    """

    deadline: float | None = None
    training_seconds: float | None = None
    refining_seconds: float | None = None

    def ends(self, num_later: int) -> Ends:
        """When the stages of a member end, with time left for the refinements of ``num_later`` members after it."""
        if self.deadline is None:
            return Ends(None, None)
        seconds = self.refining_seconds or 0.0
        last = self.deadline - num_later * seconds
        return Ends(last - seconds, last)
