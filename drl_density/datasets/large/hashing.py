"""Counter-based random numbers: one for each row, from its place or its content, whatever the order of reading.

A row keeps its number when the file is read again, in other chunks or by another process. So splits and samples need no
memory of the rows that were read before.
"""

from __future__ import annotations

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""Increment of the counter: 2^64 over the golden ratio (Steele, Lea and Flood 2014, SplitMix64)."""


def mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: a bijection of 64-bit integers whose outputs pass for random ones.

    Args:
        values: integers, uint64, of any shape; left unchanged.
    """
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def stream_key(seed: int, *counters: int) -> np.ndarray:
    """Key of one independent stream of random numbers, uint64 of shape ``(1,)``.

    Args:
        seed: seed of all streams.
        counters: numbers that distinguish streams of one seed.

    >>> bool(stream_key(0, 1) == stream_key(0, 2))
    False
    """
    key = np.zeros(1, dtype=np.uint64)
    for part in (seed, *counters):
        key = mix(key * GOLDEN + np.array([part % 2**64], dtype=np.uint64) + GOLDEN)
    return key


def place_hashes(places: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Random 64-bit integers ``(n,)`` of the rows at ``places`` of a table, counted from 0."""
    return mix(places.astype(np.uint64) * GOLDEN + key)


def content_hashes(values: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Random 64-bit integers ``(n,)`` of rows ``(n, d)``, equal for equal rows.

    Zeros of both signs are equal, and so are all kinds of NaN.

    >>> hashes = content_hashes(np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0]]), stream_key(0))
    >>> bool(hashes[0] == hashes[1]), bool(hashes[0] == hashes[2])
    (True, False)
    """
    hashes = np.broadcast_to(key, (len(values),)).copy()
    for column in values.T:
        numbers = np.where(np.isnan(column), np.nan, column + 0.0)
        hashes = mix(hashes * GOLDEN + numbers.astype(np.float64).view(np.uint64))
    return mix(hashes + GOLDEN)


def unit_interval(hashes: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) from random 64-bit integers; uniform if those are."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
