"""The share of modes that a number of independent searches has not seen."""

from __future__ import annotations

from collections.abc import Sequence

LARGEST_UNSEEN, LARGEST_KNOWN_UNSEEN = 0.02, 0.1
"""Unseen shares above which log Z is doubtful, and unknown."""


def unseen_share(hits: Sequence[int]) -> float:
    """Estimated probability that the next search ends in a mode that no search has found.

    It is the share of modes found once, with one more search supposed to have found such a mode. Few searches therefore
    never give a small share: without any it is 1, and 49 that all agree give 2 %.

    Args:
        hits: number of independent searches that ended in each mode that was found.

    Source: Good 1953 (the share without the supposed search).

    >>> unseen_share([97, 1, 1]), unseen_share([49]), unseen_share([])
    (0.03, 0.02, 1.0)
    """
    return (sum(count == 1 for count in hits) + 1) / (sum(hits) + 1)
