"""Names of estimators, and means of log weights."""

import math

import pytest
import torch

from drl_density.partition_function.two_sided.estimates import (
    Estimator,
    mean_inverse_weight,
    mean_log_weight,
    mean_reverse_log_weight,
)


def test_labels_are_read_back_and_mark_the_bounds():
    assert all(Estimator(str(name)) is name for name in Estimator)
    # Figures draw bounds by these beginnings of their labels.
    assert {name for name in Estimator if name.startswith("lower")} == {Estimator.LOWER}
    assert {name for name in Estimator if name.startswith("upper")} == {Estimator.UPPER_NOISE, Estimator.UPPER_DATA}
    with pytest.raises(ValueError, match="no estimator"):
        Estimator("no estimator")


def test_bounds_are_means_of_log_weights_and_dead_paths_lower_them():
    weights = torch.tensor([[1.0, 3.0], [2.0, 6.0]])
    assert mean_log_weight(weights) == mean_reverse_log_weight(weights) == (3.0, 1.0)
    dead = torch.tensor([[1.0, -math.inf], [2.0, 6.0]])
    assert mean_log_weight(dead).log_z == pytest.approx(3 + math.log(3 / 4))
    assert mean_reverse_log_weight(-dead).log_z == pytest.approx(-3 - math.log(3 / 4))


def test_the_mean_inverse_weight_is_that_of_all_paths():
    weights = torch.tensor([[1.0, 3.0], [2.0, 6.0]])
    assert mean_inverse_weight(weights).log_z == pytest.approx(-math.log(float((-weights).exp().mean())))
