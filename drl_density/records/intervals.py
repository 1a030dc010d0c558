"""Intervals of a mean from its standard error: normal, and Student's t for few replicates."""

from __future__ import annotations

from statistics import NormalDist
from typing import TypeVar

from torch import Tensor

Value = TypeVar("Value", float, Tensor)


def normal_quantile(probability: float = 0.95) -> float:
    """Half width, in standard deviations, of the central normal interval that holds ``probability``.

    Raises:
        ValueError: a probability outside (0, 1).

    >>> round(normal_quantile(), 4), round(normal_quantile(0.5), 4)
    (1.96, 0.6745)
    """
    if isinstance(probability, str) or not 0 < probability < 1:
        raise ValueError(f"the probability of an interval must lie between 0 and 1, got {probability!r}")
    return NormalDist().inv_cdf(0.5 + probability / 2)


def normal_interval(center: Value, standard_error: float, probability: float = 0.95) -> tuple[Value, Value]:
    """Ends of the central normal interval of a number, or of every entry of a tensor.

    Args:
        center: value or values that the interval is around.
        standard_error: standard deviation of the error, of the same unit.
        probability: chance in (0, 1) that the interval covers the truth.

    Raises:
        ValueError: a probability outside (0, 1).

    >>> [round(end, 2) for end in normal_interval(1.0, 0.5)]
    [0.02, 1.98]
    """
    half_width = normal_quantile(probability) * standard_error
    return center - half_width, center + half_width


def student_quantile(degrees: int, probability: float = 0.95) -> float:
    """Half width, in standard errors, of the central interval of Student's t that holds ``probability``.

    Args:
        degrees: degrees of freedom, one less than the number of replicates.
        probability: chance in (0, 1) that the interval covers the truth.

    Raises:
        ValueError: a probability outside (0, 1).

    >>> round(student_quantile(7), 4)
    2.3646
    """
    from scipy import stats

    normal_quantile(probability)  # the same check of the probability
    return float(stats.t.ppf(0.5 + probability / 2, degrees))


def student_interval(mean: float, error: float, num_replicates: int, probability: float = 0.95) -> tuple[float, float]:
    """Ends of the central interval of Student's t around a mean over few replicates.

    Args:
        mean: mean of the replicates.
        error: its standard error, from their spread.
        num_replicates: number of replicates, at least 2.
        probability: chance in (0, 1) that the interval covers the truth.

    >>> [round(end, 2) for end in student_interval(1.0, 0.5, 8)]
    [-0.18, 2.18]
    """
    half_width = student_quantile(num_replicates - 1, probability) * error
    return mean - half_width, mean + half_width
