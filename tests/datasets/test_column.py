"""Supports of columns: the nearest permitted value, to the last digit, and the ends of the cells."""

import math

import numpy as np
import pytest
import torch

from drl_density.datasets import Column
from drl_density.errors import DataError

INF = math.inf
RATING = Column("stars", "integer", 1.0, values=(1.0, 2.0, 5.0))


def test_closed_supports_take_their_values_from_the_list():
    x = np.array([-100.0, 0.4, 1.4, 3.49, 3.51, 7.0, np.nan])
    assert RATING.on_support(x)[:-1].tolist() == [1.0, 1.0, 1.0, 2.0, 5.0, 5.0]
    assert np.isnan(RATING.on_support(x)[-1])
    far = Column("far", "binary", 1e300, values=(1e-300, 1e300))
    assert far.on_support(np.array([1e-300, 6e299, -INF])).tolist() == [1e-300, 1e300, 1e-300]


def test_labels_have_their_codes_as_values():
    labels = Column("c", "categorical", 1.0, categories=("x", "y", "z"))
    assert labels.values == (0.0, 1.0, 2.0)
    assert labels.on_support(torch.tensor([-3.0, 9.0])).tolist() == [0.0, 2.0]
    assert Column("c", "categorical", categories=("x", "y")).width == 1.0


@pytest.mark.parametrize(("width", "offset"), [(0.1, 0.0), (0.05, 0.02), (1e-13, 0.0), (1e-25, 2e-26), (2.0, 1.0)])
def test_open_grids_are_rounded_correctly(width, offset):
    """The value of a grid is the float64 nearest to the decimal number, not a sum of rounded steps."""
    from decimal import Decimal

    steps = np.arange(-300, 301)
    found = Column("x", "rounded", width, offset=offset).on_support(offset + width * (steps + 0.3))
    exact = [float(Decimal(repr(offset)) + int(step) * Decimal(repr(width))) for step in steps]
    assert found.tolist() == exact
    assert not np.signbit(found[found == 0]).any()


def test_whole_numbers_keep_their_last_digit():
    whole = np.array([2.0**53 - 1, 2.0**53 - 2, -(2.0**53) + 1])
    assert Column("id", "integer", 1.0).on_support(whole).tolist() == whole.tolist()


def test_open_grids_end_at_their_bounds():
    ages = Column("age", "integer", 1.0, lower=0.0, upper=99.5)
    assert ages.on_support(np.array([-7.0, -0.4, 99.4, 140.0])).tolist() == [0.0, 0.0, 99.0, 99.0]
    assert ages.cell_ends == (-0.5, 99.5)
    tenths = Column("share", "rounded", 0.1, lower=0.3, upper=0.7)
    assert tenths.on_support(np.array([0.0, 1.0])).tolist() == [0.3, 0.7]
    pixel = Column("x", "integer", 1.0, lower=-0.5, upper=255.5)
    assert pixel.cell_ends == (-0.5, 255.5)
    assert pixel.on_support(np.array([-0.5, 255.5])).tolist() == [0.0, 255.0]


def test_continuous_columns_stay_as_they_are_within_their_bounds():
    x = torch.tensor([-0.1, 0.2, 3.0])
    assert torch.equal(Column("x").on_support(x), x)
    assert Column("x", lower=0.0, upper=1.0).on_support(x).tolist() == [0.0, x[1].item(), 1.0]


def test_cells_of_closed_supports_end_half_a_width_beyond():
    assert RATING.cell_ends == (0.5, 5.5)
    assert Column("x").cell_ends == (-INF, INF)


def test_tensors_keep_their_type_and_shape():
    found = RATING.on_support(torch.full((2, 3), 4.0, dtype=torch.float32))
    assert (found.dtype, found.shape) == (torch.float32, (2, 3))


def test_descriptions_list_the_values():
    assert RATING.describe() == "stars: integer, grid 1; only the values 1, 2, 5; dequantised"
    assert RATING.is_closed
    assert RATING.is_discrete
    many = Column("k", "integer", 1.0, values=tuple(range(30)))
    assert "17, 18, 19 and 10 more" in many.describe()
    assert "pile" not in Column("x", lower=0.0, piles=(0.0,)).describe()
    assert "pile up at 1:" in Column("x", lower=0.0, piles=(0.0, 1.0)).describe()


WRONG = {
    "order": ({"width": 1.0, "values": (2.0, 1.0)}, "ascending"),
    "twice": ({"width": 1.0, "values": (1.0, 1.0)}, "ascending"),
    "infinite": ({"width": 1.0, "values": (1.0, INF)}, "finite"),
    "no width": ({"values": (1.0, 2.0)}, "positive width"),
    "overlap": ({"width": 2.0, "values": (1.0, 2.0)}, "cells of width 2 overlap"),
}


@pytest.mark.parametrize("name", WRONG)
def test_supports_without_a_meaning_are_refused(name):
    declared, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        Column("x", "integer", **declared)


@pytest.mark.parametrize(
    ("storage", "least", "largest"), [("uint8", 0.0, 255.0), ("int8", -128.0, 127.0), ("int64", -900.0, 900.0)]
)
def test_no_value_leaves_the_type_that_the_table_holds(storage, least, largest):
    values = np.array([-900.0, 3.4, 900.0, math.nan])
    for width in (1.0, 0.0):
        found = Column("n", width=width, storage=storage).on_support(values)
        assert found[[0, 2]].tolist() == [least, largest]
        assert np.isnan(found[3])
    assert Column("n", width=2.0, offset=1.0, storage="uint8").on_support(values)[[0, 2]].tolist() == [1.0, 255.0]


def test_single_precision_values_are_permitted():
    tenths = Column("x", "rounded", 0.1, values=(0.1, 0.2, 0.7))
    assert tenths.has(torch.tensor([0.1, 0.2, 0.7]).double()).all()
    assert not tenths.has(torch.tensor([0.11, 0.15, 5.0])).any()
    assert Column("x").has(torch.tensor([-1.0, 1e300, math.nan])).all()
