"""How many rows to work on at once."""

from __future__ import annotations


def chunk_sizes(total: int, largest: int) -> list[int]:
    """Sizes that add up to ``total``, each at most ``largest``.

    >>> chunk_sizes(10, 4)
    [4, 4, 2]
    """
    return [min(largest, total - start) for start in range(0, total, largest)]
