"""Exceptions, warnings and verdicts of the package.

Bad input raises an error with what was expected, what was given, and how to correct it. A numerical outcome that makes a
result doubtful becomes a field of the result and a warning of one of the classes below, never a silent repair.
"""

from __future__ import annotations

from enum import StrEnum

DOCUMENTATION = "the documentation of drl_density"
"""What messages call the documentation. An installed package has no pages, so a message names a page by its title."""


class Verdict(StrEnum):
    """How far a result can be trusted; each member equals its own string.

    >>> Verdict("reliable") is Verdict.RELIABLE, Verdict.DOUBTFUL == "doubtful", Verdict.DOUBTFUL.is_reliable
    (True, True, False)
    """

    RELIABLE = "reliable"
    """Every check holds: build on the number and its interval."""
    DOUBTFUL = "doubtful"
    """Usable with care: a check came close to its limit, or failed where the interval still covers the difference."""
    UNRELIABLE = "unreliable"
    """A check failed: the number is printed for inspection only."""
    UNKNOWN = "unknown"
    """No estimator covers the answer, for instance because the paths in the two directions do not overlap."""
    IMPROPER = "improper"
    """The density has no finite integral, so there is no number."""
    STABLE = "stable"
    """Chains started from data and from noise agree and do not drift."""
    SLOW = "slow"
    """Chains have not mixed yet, and nothing contradicts that longer ones would."""
    DRIFTING = "drifting"
    """Chains move away from the data or never agree."""

    @property
    def is_reliable(self) -> bool:
        """True for ``RELIABLE`` alone."""
        return self is Verdict.RELIABLE


UNUSABLE_VERDICTS = (Verdict.UNRELIABLE, Verdict.UNKNOWN, Verdict.IMPROPER)
"""Verdicts whose number must not be built on; ``DOUBTFUL`` is not among them: its interval covers the doubt."""


def see(page: str, question: str = "") -> str:
    """The end of a message that names a page of the documentation, and a question on it.

    Args:
        page: title of the page.
        question: heading on that page.

    >>> see("Questions and answers", "Can a fit be interrupted?")
    'see "Can a fit be interrupted?" on the page "Questions and answers" of the documentation of drl_density'
    """
    place = f'"{question}" on ' if question else ""
    return f'see {place}the page "{page}" of {DOCUMENTATION}'


class DataError(ValueError):
    """Data that cannot be used; the message names the file, column and row where there is one."""


class RunFolderError(RuntimeError):
    """A run folder that is missing, foreign, damaged, of another format version, or about to be overwritten."""


class NumericalError(RuntimeError):
    """A computation whose result is not a number, or is known to be wrong."""


class TrainingFailed(NumericalError):
    """Training that still diverged after as many rollbacks as allowed; the message holds the training doctor's report."""


class WorkerLost(RuntimeError):
    """Another process of a distributed run that has ended or does not answer; saved files are complete."""


class DRLDensityWarning(UserWarning):
    """Base class of every warning of this package."""


class DataWarning(DRLDensityWarning):
    """A property of the data that the user should be aware of, such as very few rows."""


class DivergenceWarning(DRLDensityWarning):
    """A chain or a training run that left the region where its numbers can be trusted."""


class UnreliableEstimateWarning(DRLDensityWarning):
    """An estimate that its own diagnostics advise against using."""


__all__ = [
    "DOCUMENTATION",
    "UNUSABLE_VERDICTS",
    "DRLDensityWarning",
    "DataError",
    "DataWarning",
    "DivergenceWarning",
    "NumericalError",
    "RunFolderError",
    "TrainingFailed",
    "UnreliableEstimateWarning",
    "Verdict",
    "WorkerLost",
    "see",
]
