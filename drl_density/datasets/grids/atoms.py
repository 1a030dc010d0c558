"""Atoms of a column: single values that many rows share, among values that hardly repeat."""

from __future__ import annotations

import math

import numpy as np

from drl_density.datasets.grids.grid import DISTINCT, Grid, decimal_grid

LEAST_PILE, LEAST_SHARE = 5, 0.02
"""Fewest rows, and least share of all, on one value that count as a pile: our own choice, enough to rule out chance."""

MOST_ATOMS, STANDING_OUT = 5, 3
"""Most values of a column that may be atoms, and how many times as often each occurs as any other value: our own choice."""

ATOM_SHARE = 0.01
"""Largest width, as a share of a column's spread, at which a column with rows on a bound is rounded: our own choice."""


def find_atoms(values: np.ndarray) -> np.ndarray:
    """The atoms of a column, ascending: at most five values that occur far more often than all others.

    Each is held by at least five rows and 2 % of all, and occurs at least three times as often as any value that is none.

    >>> find_atoms(np.array([-1.0] * 6 + [1.0] * 30 + [0.1 * math.sqrt(n) for n in range(1, 61)]))
    array([-1.,  1.])
    """
    distinct, repeats = np.unique(values, return_counts=True)
    order = np.argsort(-repeats, kind="stable")
    least = max(LEAST_PILE, LEAST_SHARE * len(values))
    number = 0
    for place in range(min(MOST_ATOMS, len(order))):
        following = repeats[order[place + 1]] if place + 1 < len(order) else 0
        if repeats[order[place]] >= max(least, STANDING_OUT * following):
            number = place + 1
    return np.sort(distinct[order[:number]])


def atoms_grid(values: np.ndarray) -> Grid | None:
    """The grid through the atoms among values that hardly repeat; None without atoms.

    Its width is at most that of :func:`atom_width`, and divides the decimal grid through all atoms. Where they lie on none,
    it goes through the most frequent one.
    """
    atoms = find_atoms(values)
    if not len(atoms):
        return None
    repeats = np.array([(values == atom).sum() for atom in atoms])
    others = values[~np.isin(values, atoms)]
    if len(np.unique(others)) <= DISTINCT * len(others):
        return None
    width = atom_width(1 - len(others) / len(values), others)
    common = decimal_grid(atoms, atoms) if len(atoms) > 1 else None
    if common is None:
        return Grid(width, float(atoms[repeats.argmax()]))
    exponent = math.floor(math.log10(width / common.width))
    share = next((share for share in (5, 2, 1) if share * 10.0**exponent <= width / common.width), 1)
    width = float(f"{share * common.width:.12g}e{exponent}") if exponent < 0 else common.width
    return Grid(width, float(f"{math.fmod(common.offset, width):.12g}"))


def atom_grid(values: np.ndarray) -> Grid | None:
    """The grid through one frequent value among others that hardly repeat, such as the zeros of amounts; else None."""
    distinct, repeats = np.unique(values, return_counts=True)
    atom = float(distinct[repeats.argmax()])
    others = values[values != atom]
    if len(distinct) - 1 <= DISTINCT * len(others):
        return None
    width = atom_width(1 - len(others) / len(values), others)
    return Grid(width, atom) if width else None


def atom_width(share: float, others: np.ndarray) -> float:
    """The width of cells in which a share of all rows on one point has a moderate density next to the other values."""
    if not len(others):
        return 0.0
    spread = float(np.subtract(*np.quantile(others, [0.75, 0.25]))) or float(np.ptp(others))
    return float(f"{min(share, ATOM_SHARE) * spread:.0e}")
