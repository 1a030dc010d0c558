"""The time that the stages of a fit may take."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import torch


class Ends(NamedTuple):
    """Values of ``time.monotonic()`` at which the stages of a member end, or None without a limit.

    Attributes:
        contrast: End of the first stage.
        refinement: End of the refinement.
    """

    contrast: float | None
    refinement: float | None


def more_minutes(lacking: float) -> float:
    """Minutes to advise where about so many lack: half as many again, since times vary, rounded up to tenths.

    Args:
        lacking: Measured or forecast minutes.

    >>> more_minutes(0.2), more_minutes(0.0)
    (0.4, 0.1)
    """
    return max(0.1, math.ceil(10 * (1.5 * lacking + 0.05)) / 10)


@dataclass(frozen=True)
class Budget:
    """Time that training may take.

    Attributes:
        deadline: Value of ``time.monotonic()`` at which training stops, or None without a limit.
        training_seconds: Forecast of the time of training, or None where none was made.
        refining_seconds: Time kept for the refinement of each member; None without a limit.
        is_reference_alone: Whether there is no time to train, so that the untouched reference is reported.
    """

    deadline: float | None = None
    training_seconds: float | None = None
    refining_seconds: float | None = None
    is_reference_alone: bool = False

    def ends(self, num_later: int) -> Ends:
        """When the stages of a member end, with time left for the refinements of ``num_later`` members after it."""
        if self.deadline is None:
            return Ends(None, None)
        seconds = self.refining_seconds or 0.0
        last = self.deadline - num_later * seconds
        return Ends(last - seconds, last)


@dataclass(frozen=True)
class Pace:
    """How the wall clock runs beside the processor, measured from the beginning of a fit.

    On a busy machine a short piece of work takes a time of chance on the wall clock. Its processor time is steady, and what
    the wall clock adds to it shows over the longer time of the fit so far.

    The processor time is that of the fit's own thread. This thread does its share of every parallel operation, so on an
    idle machine its time is that of the wall, whatever the number of torch's threads is. The time of the whole process
    would count two threads twice, and halve the steps of a stage that uses both.

    Attributes:
        wall: Value of ``time.monotonic()`` at the beginning.
        processor: Value of ``time.thread_time()`` at the beginning.
    """

    wall: float
    processor: float

    @classmethod
    def begin(cls) -> Pace:
        """The pace from now on."""
        return cls(time.monotonic(), time.thread_time())

    def without(self, wall: float, processor: float) -> Pace:
        """This pace without a time in which threads worked side by side and this one waited for Python's lock.

        Args:
            wall: Wall-clock seconds of that time.
            processor: Processor seconds of the fit's thread in it.
        """
        return Pace(self.wall + wall, self.processor + processor)

    def ratio(self) -> float:
        """Wall-clock seconds for each second of the processor so far; 1 where no time has been counted."""
        wall, processor = time.monotonic() - self.wall, time.thread_time() - self.processor
        return wall / processor if min(wall, processor) > 0 else 1.0

    def clock(self, device: torch.device) -> Clock:
        """A clock in forecast seconds of the wall, for work on a device."""
        return Clock(self.ratio() if device.type == "cpu" else None)


@dataclass(frozen=True)
class Clock:
    """A clock for short pieces of work.

    Attributes:
        ratio: Wall-clock seconds for each second of the processor in this thread, which is what is counted; None counts the
            wall clock, for work on other devices, which the processor only waits for.
    """

    ratio: float | None = None

    def __call__(self) -> float:
        """Seconds since some moment."""
        return time.monotonic() if self.ratio is None else self.ratio * time.thread_time()
