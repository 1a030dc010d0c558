"""Which texts are numbers, and what columns of them are."""

import numpy as np
import pytest

from drl_density.datasets import ReadOptions
from drl_density.datasets.tables.text.numerals import Evidence, decide, in_doubt, to_boolean, to_number

NUMBERS = [
    ("1", ".", 1), ("-1.5", ".", -1.5), ("+.5e3", ".", 500.0), ("1,000", ".", 1000), ("1,234,567.5", ".", 1234567.5),
    ("1 000", ".", 1000), ("1'000", ".", 1000), ("1\u202f000", ".", 1000), ("\u22125", ".", -5), ("-1,000", ".", -1000),
    ("1,5", ",", 1.5), ("1.000", ",", 1000), ("1.000,25", ",", 1000.25), ("1,5e2", ",", 150.0), ("inf", ".", np.inf),
    ("9007199254740993", ".", 9007199254740993),
]  # fmt: skip
TEXTS = [
    ("1,5", "."), ("1.5", ","), ("1,00", "."), ("0,126", "."), ("1,0000", "."), ("1_000", "."), ("0x1F", "."), ("abc", "."),
    ("1,000 000", "."), ("5 kg", "."), ("5%", "."), ("1.2.3", "."), ("", "."), ("--5", "."), ("e5", "."), ("1 00", "."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "decimal", "value"), NUMBERS)
def test_numbers(text, decimal, value):
    found = to_number(text, decimal)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("text", "decimal"), TEXTS)
def test_other_texts(text, decimal):
    assert to_number(text, decimal) is None


def test_separators_can_be_fixed_or_forbidden():
    assert to_number("1,000", ".", "") is None
    assert to_number("1,000", ".", "'") is None
    assert to_number("1'000", ".", "'") == 1000
    assert to_number("1,000", ",", "") == 1.0
    assert [to_boolean(text) for text in ("TRUE", "false", "1", "yes")] == [True, False, None, None]


def evidence(texts):
    found = Evidence()
    distinct, rows, counts = np.unique(np.array(texts), return_index=True, return_counts=True)
    found.add_texts(distinct.tolist(), counts, rows, ReadOptions())
    return found


def decided(columns, delimiter=";", known=None, **options):
    return decide(
        {name: evidence(texts) for name, texts in columns.items()}, ReadOptions(**options), delimiter, known or {}
    )


def test_decimal_commas_and_points_are_decided_by_column():
    found = decided({"a": ["1,5", "2"], "b": ["1.5", "2.25"], "c": ["1", "2"]})
    assert [found[name].decimal for name in "abc"] == [",", ".", None]
    assert "decimal commas" in found["a"].note
    assert not found["b"].note


def test_unclear_commas_follow_the_table_or_are_asked_for():
    unclear = {"a": ["1,234", "2,345"]}
    assert decided({**unclear, "b": ["1,5"]})["a"].decimal == ","
    assert decided({**unclear, "b": ["1.5"]})["a"].decimal == "."
    assert "--decimal" in decided(unclear)["a"].error
    assert decided(unclear, ",")["a"].decimal == "."
    assert decided(unclear, decimal=",")["a"].decimal == ","
    assert decided(unclear, thousands=",")["a"].decimal == "."
    points = {"a": ["1.234", "2.345"]}
    assert decided(points)["a"].decimal == "."
    assert decided({**points, "b": ["5,6"]})["a"] == decided({"a": ["1.234.567"]})["a"]


def test_a_few_odd_cells_are_an_error_and_many_make_labels():
    found = decided(
        {"a": ["1", "2", "x"], "b": ["x", "y", "1"], "c": ["x", "y"], "d": ["True", "1", "2"], "e": ["true"]}
    )
    assert [found[name].num_odd for name in "abcde"] == [1, 0, 0, 1, 0]
    assert [found[name].kind for name in "abcde"] == ["number", "text", "text", "number", "boolean"]
    assert "1 of 3 cells are numbers" in found["b"].note
    assert not found["c"].note
    assert "are numbers with a sign of currency" in decided({"a": ["5%", "10%"]})["a"].note
    assert decided({"a": ["1", "x"]}, known={"a": "text"})["a"].kind == "text"
    assert decided({"a": ["1", "x", "y"]}, known={"a": "number"})["a"].num_odd == 2


def test_parsed_numbers_are_in_doubt_only_beside_commas():
    parsed = Evidence()
    parsed.add_numbers(np.array([1.234, 2.5, np.nan]), ".", "auto")
    assert (parsed.num_cells, parsed.num_unclear, parsed.under[","]) == (2, 2, 2)
    assert in_doubt({"a": parsed}, ".") == []
    assert in_doubt({"a": parsed, "b": evidence(["1,5"])}, ".") == ["a"]
    parsed.add_numbers(np.array([0.126]), ".", "auto")
    assert in_doubt({"a": parsed, "b": evidence(["1,5"])}, ".") == []
