"""The quadratic base; the contract has a battery of its own."""

import pytest
import torch

from drl_density.bases import QuadraticBase


@pytest.mark.parametrize(("num_features", "scale"), [(0, 1.0), (3, 0.0), (3, float("nan"))])
def test_what_is_no_gaussian_is_refused(num_features, scale):
    with pytest.raises(ValueError, match="at least one feature and a positive scale"):
        QuadraticBase(num_features, scale)


def test_it_is_saved_by_its_numbers_alone():
    base = QuadraticBase(4, 10.0)
    assert base.state_dict() == {}
    assert base.to_state() == {"kind": "quadratic", "num_features": 4, "scale": 10.0}


def test_draws_follow_the_module():
    assert QuadraticBase(4, 10.0).double().sample(2).dtype == torch.float64
    assert QuadraticBase(4, 10.0).double().noised(torch.tensor(0.0)).sample(2).dtype == torch.float64
