"""Declarations about columns that no column can have are refused."""

import math

import pytest

from drl_density.datasets.tables.declared import check_declared
from drl_density.errors import DataError


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"ages": {}}, "there is no column 'ages'; did you mean age"),
        ({"zz": {}}, "columns are age, dose"),
        ({"age": {"colour": 1}}, "unknown properties .'colour'."),
        ({"age": {"kind": "number"}}, "kind must be one of"),
        ({"age": {"lower": 2.0, "upper": 1.0}}, "lower must be below upper"),
        ({"age": {"lower": True}}, "lower must be a number, got True"),
        ({"age": {"upper": math.nan}}, "upper must be a number, got nan"),
        ({"age": {"width": -1.0}}, "width must be finite, and not negative"),
        ({"age": {"offset": math.inf}}, "offset must be finite, got inf"),
        ({"age": {"values": ["a"]}}, "values must be a list of numbers"),
    ],
)
def test_declarations_that_no_column_can_have_are_refused(declared, message):
    with pytest.raises(DataError, match=message):
        check_declared(declared, ["age", "dose"])


def test_infinite_bounds_and_signed_offsets_are_declarations():
    check_declared({"age": {"lower": -math.inf, "offset": -0.5, "width": 0}}, ["age"])
