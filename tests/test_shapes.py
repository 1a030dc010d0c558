"""Shapes of values per row."""

import pytest
import torch

from drl_density.shapes import as_event_shape, check_num_samples, per_row


def test_each_value_meets_its_own_row():
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(per_row(torch.tensor([1.0, 10.0]), x) * x, torch.stack([x[0], 10 * x[1]]))


def test_one_value_meets_every_row():
    assert per_row(torch.tensor(2.0), torch.zeros(5, 3, 4)).shape == (1, 1, 1)


def test_rows_without_an_event_keep_their_shape():
    assert per_row(torch.arange(5), torch.zeros(5)).shape == (5,)


@pytest.mark.parametrize("count", [0, -3, 1.0, True, "2", None], ids=repr)
def test_a_number_of_samples_is_a_positive_integer(count):
    check_num_samples(1)
    with pytest.raises(ValueError, match="num_samples must be a positive integer"):
        check_num_samples(count)


@pytest.mark.parametrize("shape", [2, "2", (2.5,), None, (True,)], ids=repr)
def test_the_shape_of_a_point_is_a_tuple_of_lengths(shape):
    assert as_event_shape([2, 3]) == torch.Size([2, 3])
    with pytest.raises(ValueError, match=r"event_shape must be the shape of one point, such as \(2,\), got"):
        as_event_shape(shape)
