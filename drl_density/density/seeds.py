"""The one reading of a seed by everything that a user calls on a density."""

from __future__ import annotations

import torch

from drl_density.errors import DataError
from drl_density.shapes import is_integer


def random_generator(seed: int | None) -> torch.Generator:
    """A CPU generator seeded with ``seed``; for None, with a fresh seed from torch's global generator.

    Raises:
        DataError: a seed that is no integer from 0 to 2^63 - 1.
    """
    if seed is None:
        seed = int(torch.randint(2**63 - 1, ()))
    if not is_integer(seed) or not 0 <= seed < 2**63:
        raise DataError(f"seed must be an integer from 0 to 2^63 - 1, got {seed!r}")
    return torch.Generator().manual_seed(int(seed))
