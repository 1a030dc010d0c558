"""The interval of a prediction."""

import pytest
import torch

from drl_density.datasets import Column
from drl_density.density import Prediction


def test_the_interval_holds_both_errors():
    """1.96 standard errors and the quadrature error on each side, 2.576 at 99 %."""
    zero = torch.zeros(1, dtype=torch.float64)
    found = Prediction(Column("x"), zero, zero[None], (0.5,), None, None, zero - 1.0, zero + 0.1, zero + 0.01)
    low, high = found.interval()
    assert float(low) == pytest.approx(-1.0 - 0.1 * 1.959964 - 0.01, abs=1e-6)
    assert float(high) == pytest.approx(-1.0 + 0.1 * 1.959964 + 0.01, abs=1e-6)
    assert float(found.interval(0.99)[1]) == pytest.approx(-1.0 + 0.1 * 2.575829 + 0.01, abs=1e-6)
    with pytest.raises(ValueError, match="between 0 and 1"):
        found.interval(1.0)
