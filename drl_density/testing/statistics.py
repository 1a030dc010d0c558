"""Statistical checks in units of an estimator's own error, with one failure budget for a whole test suite."""

from __future__ import annotations

import math
import os
from statistics import NormalDist

import torch
from torch import Tensor

SUITE_FAILURE_RATE = 1e-4
"""Largest probability that a suite of correct code fails by chance: one run in ten thousand."""

NUM_SUITE_CHECKS = 500
"""Number of independent checks that share the failure rate, about as many as the suite makes."""

LARGEST_Z = -NormalDist().inv_cdf(SUITE_FAILURE_RATE / NUM_SUITE_CHECKS / 2)
"""Largest accepted z-score: two-sided, with the failure rate divided among the checks (Bonferroni)."""


def seeded_generator(offset: int = 0) -> torch.Generator:
    """Build a generator whose seed depends on the environment variable ``DRL_DENSITY_TEST_SEED`` and on ``offset``.

    The variable shifts the seeds of a whole suite; it is 0 when not set.

    Args:
        offset: number that distinguishes generators within a suite.

    >>> bool((torch.rand(2, generator=seeded_generator(1)) == torch.rand(2, generator=seeded_generator(1))).all())
    True
    """
    return torch.Generator().manual_seed(int(os.environ.get("DRL_DENSITY_TEST_SEED", "0")) * 100_003 + offset)


def assert_z(estimate: Tensor, truth: Tensor | float, standard_error: Tensor | float | None = None) -> None:
    """Fail if an estimate is further from the truth than the suite's failure budget allows.

    Args:
        estimate: independent draws ``(n, ...)`` whose mean is compared, or finished estimates with ``standard_error``.
        truth: the true value, in a shape that broadcasts with one estimate.
        standard_error: standard errors of the finished estimates.

    Raises:
        AssertionError: a z-score beyond :data:`LARGEST_Z`; the message holds all z-scores and the seed.

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
