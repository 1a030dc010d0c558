"""What is given to a conditional: named values, points with missing ones, masks."""

import math

import pytest
import torch

from drl_density.errors import DataError
from tests.density.closed_form import closed_form_density

ROW, MASK = torch.tensor([math.nan, 1.3, math.nan]).double(), torch.tensor([True, False, True])


@pytest.fixture(scope="module")
def density():
    return closed_form_density()


def test_a_mask_of_observed_values(density):
    point = torch.tensor([0.2, 1.3, -0.4])
    masked = density.condition(point, observed=~MASK)
    named = density.condition({"x1": 1.3})
    x = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(masked.log_prob(x), named.log_prob(x), rtol=0, atol=1e-6)  # 1.3 in float32
    for mask, message in (
        (torch.ones(2, dtype=torch.bool), "boolean mask of shape"),
        (torch.ones(3), "boolean mask of shape"),
        (torch.ones(3, dtype=torch.bool), "every column is given"),
        (torch.zeros(3, dtype=torch.bool), "nothing is given"),
    ):
        with pytest.raises(DataError, match=message):
            density.condition(point, observed=mask)
    with pytest.raises(DataError, match="marked as observed are NaN"):
        density.condition(ROW, observed=torch.tensor([True, True, False]))
    with pytest.raises(DataError, match="goes with a whole point"):
        density.condition({"x1": 1.3}, observed=~MASK)


WRONG = {
    "unknown": (lambda d: d.condition({"y": 0.0}), "columns are x0, x1"),
    "index": (lambda d: d.condition({2: 0.0}), "run from -2 to 1"),
    "nan": (lambda d: d.condition({0: math.nan}), "finite number"),
    "everything": (lambda d: d.condition({0: 0.0, 1: 0.0}), "every column is given"),
    "nothing": (lambda d: d.condition({}), "nothing is given"),
    "shape": (lambda d: d.condition(torch.zeros(3)), "with NaN where values are missing"),
    "all columns": (lambda d: d.marginal([0, 1]), "some but not all"),
    "width": (lambda d: d.marginal([0]).log_prob(torch.zeros(4, 2)), r"rows of shape \(1,\)"),
    "infinite": (lambda d: d.impute(torch.tensor([[math.inf, 0.0]])), "mark missing values with NaN"),
    "rows": (lambda d: d.impute(torch.zeros(2, 3)), "expected rows of shape"),
    "count": (lambda d: d.impute(torch.zeros(2, 2), num_samples=0), "a positive integer, got 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_are_refused(name, tiny_density):
    call, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        call(tiny_density)


def test_a_tensor_with_gradients_is_its_value(density):
    x = torch.zeros(1, 2, dtype=torch.float64)
    given = torch.tensor(0.5, requires_grad=True)
    assert torch.equal(density.condition({"x0": given}).log_prob(x), density.condition({"x0": 0.5}).log_prob(x))


def test_a_column_given_twice_is_refused(tiny_density):
    with pytest.raises(DataError, match="'x0' is given twice, the second time as 'x0'"):
        tiny_density.condition({0: 1.0, "x0": -5.0})
