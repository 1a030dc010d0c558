"""Hashes of groups and numbers of times: equal cells agree whatever holds them, and a missing one is named."""

import numpy as np
import pandas as pd
import pytest

from drl_density.datasets.large.source import count_rows, group_hashes, time_numbers
from drl_density.errors import DataError
from tests.datasets.large.frames import FrameSource

PLACE = {"where": "the frame", "first_row": 5}


def test_equal_groups_have_equal_hashes_whatever_holds_them():
    texts = ["b", "a", "b"]
    for cells in (
        pd.Series(texts),
        pd.Series(texts, dtype="category"),
        pd.Series(texts, dtype=object),
        pd.Series(texts, dtype="string[pyarrow]"),
    ):
        hashes = group_hashes(cells, **PLACE)
        assert hashes[0] == hashes[2] != hashes[1]
        assert (hashes == group_hashes(pd.Series(texts), **PLACE)).all()
    whole, decimal = pd.Series([3, 4]), pd.Series([3.0, 4.5])
    assert group_hashes(whole, **PLACE)[0] == group_hashes(decimal, **PLACE)[0]
    assert group_hashes(whole.astype("Int64"), **PLACE)[1] == group_hashes(whole, **PLACE)[1]


def test_times_of_all_kinds_have_one_order():
    dates = ["2024-01-31", "2023-12-01T10:30", "2024-02-01"]
    expected = [1, 0, 2]
    for cells in (
        pd.Series(dates),
        pd.Series(pd.to_datetime(dates, format="ISO8601")),
        pd.Series(pd.to_datetime(dates, format="ISO8601").date),
        pd.Series([5, 1, 7]),
        pd.Series([0.5, -1.0, 2.0]),
    ):
        assert np.argsort(np.argsort(time_numbers(cells, **PLACE))).tolist() == expected


@pytest.mark.parametrize(("function", "role"), [(group_hashes, "group"), (time_numbers, "time")])
def test_a_row_without_group_or_time_is_named(function, role):
    cells = pd.Series(["2024-01-31", None, "NA"], name="when")
    with pytest.raises(DataError, match=f"the frame: column 'when', row 6 is empty, so the row has no {role}"):
        function(cells, **PLACE)


def test_text_that_is_no_date_is_refused():
    with pytest.raises(DataError, match="column 'when' must order the rows by time, but has text that is no ISO date"):
        time_numbers(pd.Series(["soon", "later"], name="when"), **PLACE)
    with pytest.raises(DataError, match="no ISO date"):  # pandas makes one of it
        time_numbers(pd.Series(["2024-01-31", "Now"], name="when"), **PLACE)


def test_rows_are_counted_only_where_the_source_does_not_state_them():
    frame = pd.DataFrame({"a": np.arange(31), "b": 0})
    known, unknown = FrameSource(frame), FrameSource(frame, size=7, knows_rows=False)
    assert count_rows(known) == count_rows(unknown) == 31
    assert (known.num_passes, unknown.num_passes) == (0, 1)
