"""Transforms back from plain values and tensors; round trips of every kind are in test_data_transform."""

import pytest
import torch

from drl_density.errors import RunFolderError
from drl_density.transforms import Affine, Logit, Whitening, transform_from_state
from drl_density.transforms.state import _READERS


def test_states_hold_plain_values_and_tensors_by_name():
    values, tensors = Logit(0.0, 2.0).to_state()
    assert values == {"kind": "logit"}
    assert {name: float(value) for name, value in tensors.items()} == {"lower": 0.0, "upper": 2.0}
    assert type(transform_from_state(*Affine(0.0, 1.0).to_state())) is Affine
    again = transform_from_state(*Whitening(torch.zeros(2), torch.eye(2)).to_state())
    assert torch.equal(again.factor, torch.eye(2))


def test_kinds_are_distinct():
    assert sorted(_READERS) == ["affine", "gaussianization", "grid_histograms", "logit", "whitening"]


def test_an_unknown_kind_is_refused():
    with pytest.raises(RunFolderError, match="unknown kind of transform 'spline'"):
        transform_from_state({"kind": "spline"}, {})
