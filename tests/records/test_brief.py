"""``brief``: shapes in place of numbers, and never a long text."""

import dataclasses

import numpy as np
import pytest
import torch

from drl_density.records.brief import brief


@dataclasses.dataclass(eq=False)
class Held:
    value: object
    _hidden: int = 0
    __repr__ = brief


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.zeros(3, 2), "Tensor(3, 2)"),
        (torch.tensor(1.5), "1.5"),
        (np.zeros((4, 1)), "ndarray(4, 1)"),
        (torch.nn.Linear(2, 2), "Linear(...)"),
        (0.1 + 0.2, "0.3"),
        (None, "None"),
        ("name", "'name'"),
        ("x" * 61, "str(...)"),
        ((1, 2), "(1, 2)"),
        ([torch.zeros(2)], "list of 1"),
        (dict.fromkeys(range(9)), "dict of 9"),
        (torch.relu, "relu(...)"),
        (torch.nn.functional.gelu, "gelu(...)"),
    ],
)
def test_a_field_prints_in_a_few_words(value, text):
    assert repr(Held(value)) == f"Held(value={text})"


def test_a_record_of_many_fields_ends_with_dots():
    many = dataclasses.make_dataclass("Many", [(f"number_{index}", float) for index in range(40)], repr=False)
    many.__repr__ = brief
    text = repr(many(*range(40)))
    assert text.startswith("Many(number_0=0, ")
    assert text.endswith(", ...)")
    assert len(text) < 300
