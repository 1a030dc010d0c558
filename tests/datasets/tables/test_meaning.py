"""What cells mean as labels and as numbers."""

import numpy as np
import pytest

from drl_density.datasets.tables.cells import read_cells
from drl_density.datasets.tables.meaning import label_of, meaning_of, number_labels


@pytest.mark.parametrize("cell", [12, 12.0, "12", " 12 ", "12.0", np.float32(12), np.uint8(12), b"12"])
def test_a_number_is_the_label_that_spells_it(cell):
    found = read_cells([cell, "odd"]).as_labels(("3", "12", "odd"))
    assert found.codes.tolist() == [1.0, 2.0]
    alone = read_cells([cell]).as_labels(("3", "12", "odd"))
    assert (alone.codes.tolist(), alone.problem) == ([1.0], None)


def test_an_unknown_label_is_named():
    problem = read_cells(["a", None, "c"]).as_labels(("a", "b")).problem
    assert problem is not None
    assert problem.row == 2
    assert problem.words == "'c' is no label of this column; the labels are 'a', 'b'"
    assert read_cells([1]).as_labels(("a", "b")).problem is not None  # never the code 1


def test_a_known_label_wins_over_the_texts_for_missing_values():
    cells = read_cells(["None", "few", "NA"])
    np.testing.assert_array_equal(cells.as_labels(("None", "few")).codes, [0.0, 1.0, np.nan])
    np.testing.assert_array_equal(cells.as_labels().codes, [np.nan, 0.0, np.nan])


def test_labels_of_equal_value_are_told_apart_by_their_text():
    labels = ("012", "12")
    assert read_cells(["012", "12"]).as_labels(labels).codes.tolist() == [0.0, 1.0]
    assert read_cells([12, 12]).as_labels(labels).codes.tolist() == [1.0, 1.0]
    assert read_cells(["12.0"]).as_labels(labels).problem is not None


def test_labels_of_numbers_are_in_the_order_of_their_values():
    assert read_cells([10, 9, 2.5]).as_labels().labels == ("2.5", "9", "10")
    assert read_cells(["b", "10", "9"]).as_labels().labels == ("10", "9", "b")


def test_texts_of_cells():
    assert [label_of(cell) for cell in (1.0, 2.5, True, " x ")] == ["1", "2.5", "True", "x"]
    assert number_labels(np.array([0.1, 2.0], dtype=np.float32)) == ["0.1", "2"]
    assert [meaning_of(text) for text in ("1e3", "1_0", "TRUE", "nan")] == [1000, "1_0", "true", "nan"]


def test_text_becomes_numbers_only_as_a_whole():
    found = read_cells(["1", "x", "3"]).as_numbers()
    assert found.problem is not None
    assert (found.problem.row, found.problem.is_text) == (1, True)
    np.testing.assert_array_equal(found.values, [1.0, np.nan, 3.0])
