"""Shapes of values per row."""

import torch

from drl_density.shapes import per_row


def test_each_value_meets_its_own_row():
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(per_row(torch.tensor([1.0, 10.0]), x) * x, torch.stack([x[0], 10 * x[1]]))


def test_one_value_meets_every_row():
    assert per_row(torch.tensor(2.0), torch.zeros(5, 3, 4)).shape == (1, 1, 1)


def test_rows_without_an_event_keep_their_shape():
    assert per_row(torch.arange(5), torch.zeros(5)).shape == (5,)
