"""Statistical checks in units of the estimator's own error, with one failure budget for the suite."""

from __future__ import annotations

import math
import os
from statistics import NormalDist

import torch
from torch import Tensor

SUITE_FAILURE_RATE = 1e-4
NUM_SUITE_CHECKS = 500
LARGEST_Z = -NormalDist().inv_cdf(SUITE_FAILURE_RATE / NUM_SUITE_CHECKS / 2)


def seeded_generator(offset: int = 0) -> torch.Generator:
    """A generator seeded by ``DRL_DENSITY_TEST_SEED`` (0 when not set) plus ``offset``.

    >>> bool((torch.rand(2, generator=seeded_generator(1)) == torch.rand(2, generator=seeded_generator(1))).all())
    True
    """
    return torch.Generator().manual_seed(int(os.environ.get("DRL_DENSITY_TEST_SEED", "0")) * 100_003 + offset)


def assert_z(estimate: Tensor, truth: Tensor | float, standard_error: Tensor | float | None = None) -> None:
    """Fail when an estimate is further from the truth than the suite's failure budget allows.

    Args:
        estimate: independent draws ``(n, ...)`` whose mean is compared, or estimates when ``standard_error`` is given.
        truth: broadcastable to one estimate.
        standard_error: of the estimates.

    Raises:
        AssertionError: with the z-scores and the seed.

    >>> assert_z(torch.randn(1000, generator=seeded_generator()), 0.0)
    """
    estimate = torch.as_tensor(estimate).double()
    if standard_error is None:
        estimate, standard_error = estimate.mean(0), estimate.std(0) / math.sqrt(len(estimate))
    z = (estimate - torch.as_tensor(truth).double()) / torch.as_tensor(standard_error).double()
    if not bool((z.abs() <= LARGEST_Z).all()):
        seed = os.environ.get("DRL_DENSITY_TEST_SEED", "0")
        raise AssertionError(
            f"estimate {estimate.tolist()} against {truth}: z = {z.tolist()} beyond {LARGEST_Z:.2f} (seed {seed})"
        )
