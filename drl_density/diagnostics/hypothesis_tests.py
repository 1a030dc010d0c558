"""Tests on chains and samples."""

from __future__ import annotations

from typing import NamedTuple

import torch


class DriftTest(NamedTuple):
    """Movement along chains.

    Attributes:
        shift: move of the mean (in standard deviations) and of the second moment (in variances) of each cell, ``(2, cell)``.
        p_value: smallest p-value times the number of tests.
    """

    shift: torch.Tensor
    p_value: float


class DistanceTest(NamedTuple):
    """Distance of two samples.

    Attributes:
        distance: energy distance between the samples.
        p_value: share of relabellings with at least this distance.
    """

    distance: float
    p_value: float


def drift_test(draws: torch.Tensor) -> DriftTest:
    """Test whether means or spreads move along the chains, first against last half of every chain, by t-tests over chains.

    Args:
        draws: draws of independent chains, ``(draw, chain, cell)``; at least two of each of two chains.

    Raises:
        ValueError: fewer draws or chains.

    >>> draws = torch.randn(100, 8, 2, generator=torch.Generator().manual_seed(0))
    >>> drift_test(draws).p_value > 0.01
    True
    """
    from scipy import stats

    if min(draws.shape[:2]) < 2:
        raise ValueError(f"expected at least two draws of each of two chains, got shape {tuple(draws.shape)}")
    x = draws.detach().cpu().double()
    x = (x - x.mean((0, 1))) / x.std((0, 1))
    moments = torch.stack([x, x.square()])
    middle = len(x) // 2
    by_chain = moments[:, middle:].mean(1) - moments[:, :middle].mean(1)
    shift, error = by_chain.mean(1), by_chain.std(1) / by_chain.shape[1] ** 0.5
    z = torch.where(shift == 0, 0.0, shift / error)
    p_values = 2 * stats.t.sf(z.abs().numpy(), by_chain.shape[1] - 1)
    return DriftTest(shift, float(min(1.0, p_values.min() * p_values.size)))  # Bonferroni's correction


def rank_drift_test(before: torch.Tensor, after: torch.Tensor) -> DriftTest:
    r"""Test whether draws keep their distribution while chains move them, by ranks, for cells without moments too.

    With the rank r of a value among both samples, scaled to (-1/2, 1/2), the moves of r and of :math:`r^2` along each chain
    have mean zero if the first draws are from the chains' stationary distribution. A t-test over chains compares their means
    with zero, cell by cell: r sees a shift, and :math:`r^2` a change of spread.

    Args:
        before: first draws of independent chains ``(chain, cell)``, at least two chains.
        after: later draws of the same chains ``(chain, cell)``.

    Returns:
        The mean moves ``(2, cell)``, and Bonferroni's p-value over all of them.

    Raises:
        ValueError: samples of different shapes, or fewer chains.

    >>> draws = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> rank_drift_test(draws[:100], draws[100:]).p_value > 0.01
    True
    """
    from scipy import stats

    if before.shape != after.shape or len(before) < 2:
        raise ValueError(f"expected two draws of each of two chains, got {tuple(before.shape)} and {tuple(after.shape)}")
    pooled = torch.cat([before, after]).detach().cpu().double()
    ranks = torch.from_numpy(stats.rankdata(pooled.numpy(), axis=0))  # equal values share their mean rank
    first, last = ((ranks - 0.5) / len(pooled) - 0.5).chunk(2)
    moves = torch.stack([last - first, last.square() - first.square()])
    shift, error = moves.mean(1), moves.std(1) / len(before) ** 0.5
    z = torch.where(shift == 0, 0.0, shift / error)
    p_values = 2 * stats.t.sf(z.abs().numpy(), len(before) - 1)
    return DriftTest(shift, float(min(1.0, p_values.min() * p_values.size)))  # Bonferroni's correction


def energy_distance_test(
    x: torch.Tensor, y: torch.Tensor, *, num_permutations: int = 999, generator: torch.Generator | None = None
) -> DistanceTest:
    """Test whether two samples of independent rows come from one distribution, by their energy distance.

    At most 1,000 rows of each sample are used, since the cost grows with the square.

    Args:
        x: rows of the first sample ``(n, d)``.
        y: rows of the second sample ``(m, d)``.
        num_permutations: number of random relabellings; the smallest p-value is one over one more.

    Raises:
        ValueError: a sample without rows.

    Source: Szekely and Rizzo 2013.

    >>> x, y = torch.randn(2, 100, 2, generator=torch.Generator().manual_seed(0))
    >>> found = energy_distance_test(x, y + 1, num_permutations=99, generator=torch.Generator().manual_seed(1))
    >>> found.p_value
    0.01
    """
    if not len(x) or not len(y):
        raise ValueError(f"expected rows in both samples, got {len(x)} and {len(y)}")
    x, y = x.flatten(1).double()[:1000], y.flatten(1).double()
    y = y[torch.randperm(len(y), generator=generator)[:1000]]
    both, first = torch.cat([x, y]), len(x)
    distances = torch.cdist(both, both)

    def statistic(order: torch.Tensor) -> float:
        own = torch.zeros(len(both), dtype=torch.float64)
        own[order[:first]] = 1 / first
        own[order[first:]] = -1 / len(y)
        return -float(own @ distances @ own)

    observed = statistic(torch.arange(len(both)))
    permuted = [statistic(torch.randperm(len(both), generator=generator)) for _ in range(num_permutations)]
    exceeding = sum(value >= observed for value in permuted)
    return DistanceTest(observed, (1 + exceeding) / (1 + num_permutations))
