"""Normal intervals, and those of Student's t."""

import pytest
import torch

from drl_density.records.intervals import normal_quantile, student_interval, student_quantile
from drl_density.testing import assert_z, seeded_generator


@pytest.mark.parametrize("probability", [0.0, 1.0, 95.0])
def test_a_probability_lies_between_0_and_1(probability):
    with pytest.raises(ValueError, match="between 0 and 1"):
        normal_quantile(probability)
    with pytest.raises(ValueError, match="between 0 and 1"):
        student_quantile(7, probability)


def test_students_interval_of_few_replicates_covers_as_often_as_it_says():
    means = torch.randn(4000, 4, generator=seeded_generator(8), dtype=torch.float64)
    ends = [student_interval(float(row.mean()), float(row.std()) / 2, 4) for row in means]
    assert_z(torch.tensor([lower < 0 < upper for lower, upper in ends], dtype=torch.float64), 0.95)


def test_students_quantile_is_wider_and_falls_to_the_normal_one():
    quantiles = [student_quantile(degrees) for degrees in (1, 7, 100_000)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[-1] == pytest.approx(normal_quantile(), rel=1e-4)
