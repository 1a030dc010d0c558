"""Names of estimators."""

import pytest

from drl_density.partition_function.two_sided.estimates import Estimator


def test_labels_are_read_back_and_mark_the_bounds():
    assert all(Estimator(str(name)) is name for name in Estimator)
    # Figures draw bounds by these beginnings of their labels.
    assert {name for name in Estimator if name.startswith("lower")} == {Estimator.LOWER}
    assert {name for name in Estimator if name.startswith("upper")} == {Estimator.UPPER_NOISE, Estimator.UPPER_DATA}
    with pytest.raises(ValueError, match="no estimator"):
        Estimator("no estimator")
