"""A column is read alike however it is held."""

import datetime
import enum
import io
import math
import re
import unicodedata
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from drl_density.datasets import Column, open_table, read_rows
from drl_density.datasets.tables.cells import array_numbers, guess_column, plain_array, read_cells
from drl_density.datasets.tables.frames import pandas_frame
from drl_density.errors import DataError
from tests.datasets.tables.kinds import HOLDING_NUMBERS, HOLDING_TRUTH, INFINITE


@pytest.mark.parametrize("name", HOLDING_NUMBERS)
def test_a_missing_value_is_missing_however_it_is_held(name):
    cells = read_cells(HOLDING_NUMBERS[name]([1, None, 3]))
    found = cells.as_numbers()
    np.testing.assert_array_equal(found.values, [1.0, np.nan, 3.0])
    assert found.problem is None
    assert cells.is_missing.tolist() == [False, True, False]
    labels = cells.as_labels()
    np.testing.assert_array_equal(labels.codes, [0.0, np.nan, 1.0])
    assert labels.labels == ("1", "3")


@pytest.mark.parametrize("name", HOLDING_TRUTH)
def test_true_and_false_are_read_alike(name):
    found = guess_column(read_cells(HOLDING_TRUTH[name]([1, 0, 1])))
    assert found.values.tolist() == [1.0, 0.0, 1.0]
    assert (found.storage, found.labels, found.problem) == ("bool", None, None)


@pytest.mark.parametrize("name", INFINITE)
def test_an_infinite_value_is_a_problem_and_never_missing(name):
    cells = read_cells(INFINITE[name])
    problem = cells.as_numbers().problem
    assert problem is not None
    assert problem.row == 1
    assert "infinite" in problem.words
    assert not cells.is_missing[1]


STORED = {
    "int32": np.arange(5, dtype="<i4"),
    "uint64": np.arange(5, dtype=np.uint64),
    "float32": np.arange(5, dtype=">f4"),
    "int8": pd.array([1, 2, None], dtype="Int8"),
    "int64": ["1", " 2 ", ""],
    "float64": ["1", "2.5"],
    "string": ["a", "b", "a", "b"],
    "category": pd.Categorical(["a", "b", "a", "b"]),
    "ordered": pd.Categorical(["a", "b", "a", "b"], ordered=True),
    "category[int64]": pd.Categorical([1, 2, 1, 2]),
}


@pytest.mark.parametrize("storage", STORED)
def test_the_type_is_kept_for_writing_back(storage):
    assert guess_column(read_cells(STORED[storage])).storage == storage


def test_categories_keep_their_order_and_lose_those_that_do_not_occur():
    column = pd.Categorical(["low", "high", "low", None], categories=["low", "medium", "high"], ordered=True)
    found = guess_column(read_cells(column))
    assert found.labels == ("low", "high")
    np.testing.assert_array_equal(found.values, [0.0, 1.0, 0.0, np.nan])


UNUSABLE = {
    "complex": (np.array([1 + 1j, 2]), "complex numbers"),
    "lists": ([[1, 2], [3]], "type list"),
    "truth among numbers": ([1, 2.5, True], "True is among numbers"),
    "dates": (np.array(["2024-01-01", "NaT"], dtype="datetime64[D]"), "'2024-01-01' is a date or a time"),
    "dates of objects": ([None, datetime.date(2024, 1, 1)], "is a date or a time"),
    "durations": (pd.Series([pd.Timedelta(1), pd.NaT]), "is a date or a time"),
    "beyond 2^53": (2**60 + np.arange(3), "beyond 2\\^53"),
    "text beyond 2^53": (["9007199254740993", "1"], "beyond 2\\^53"),
    "unsigned beyond 2^53": (np.array([2**64 - 1], dtype=np.uint64), "18446744073709551615 is a whole number beyond"),
    "Arrow beyond 2^53": (pd.Series([2**60, None], dtype="int64[pyarrow]"), "beyond 2\\^53"),
    "objects beyond 2^64": ([2**70, 1], "beyond 2\\^53"),
    "objects beyond float64": ([-(10**400), 1.5], "beyond 2\\^53"),
    "objects beyond Python's digits": ([10**5000, 1.5], "beyond 2\\^53"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_number_is_a_problem(name):
    column, words = UNUSABLE[name]
    problem = read_cells(column).as_numbers().problem
    assert problem is not None
    assert re.search(words, problem.words), problem.words


def test_whole_numbers_beyond_2_53_are_exact_as_labels():
    values = 2**60 + np.arange(4)
    found = read_cells(values).as_labels()
    assert found.labels == tuple(str(value) for value in values.tolist())
    again = read_cells([str(value) for value in values[::-1].tolist()]).as_labels(found.labels)
    assert again.codes.tolist() == [3.0, 2.0, 1.0, 0.0]
    assert read_cells([2**60 + 5]).as_labels(found.labels).problem is not None


def test_text_is_labels_only_while_it_has_few_values():
    assert guess_column(read_cells(["x", "y"] * 4)).labels == ("x", "y")
    free = guess_column(read_cells([f"word {i}" for i in range(50)]))
    assert free.labels is None
    assert free.problem is not None
    assert free.problem.is_text


def test_arrays_of_any_form_become_numbers():
    np.testing.assert_array_equal(array_numbers(np.asfortranarray([[1, 2], [3, 4]])), [[1, 2], [3, 4]])
    frozen = np.arange(3.0)
    frozen.setflags(write=False)
    array_numbers(frozen)[0] = 5.0
    for wrong, words in (
        ("abc", "got str 'abc'"),
        ({"a": None}, "got dict"),
        (None, "got NoneType"),
        ([[1], [2, 3]], "got"),
        (torch.zeros(1, 2, device="meta"), "without data"),
    ):
        with pytest.raises(DataError, match=words):
            plain_array(wrong)


class Shade(str, enum.Enum):  # noqa: UP042 -- StrEnum prints its text
    """An enumeration of texts."""

    RED = "red"


def test_an_enumeration_of_texts_is_its_texts():
    assert read_cells([Shade.RED, "red", "blue"]).as_labels().labels == ("blue", "red")


NAMED = pd.DataFrame({"b": [2.0, 4.0], "a": [1.0, 3.0]})
ROWS_WITH_NAMES = {
    "series": [row for _, row in NAMED.iterrows()],
    "named tuples": list(NAMED.itertuples(index=False)),
    "dictionaries": NAMED.to_dict("records"),
    "records": list(NAMED.to_records(index=False)),
}


@pytest.mark.parametrize("name", ROWS_WITH_NAMES)
def test_names_within_rows_are_not_lost_silently(name):
    with pytest.raises(DataError, match="names would be lost: give pandas.DataFrame"):
        read_rows(ROWS_WITH_NAMES[name], (Column("x0"), Column("x1")))
    assert plain_array([pd.Series([2.0, 1.0])]).tolist() == [[2.0, 1.0]]


OPAQUE = pa.opaque(pa.float64(), "type", "vendor")
ARROW = {
    "run ends": lambda: pc.run_end_encode(pa.array([1.5, None, None, 2.0])),
    "views of text": lambda: pa.array(["1.5", None, None, "2"], pa.string_view()),
    "a null among the labels": lambda: pa.DictionaryArray.from_arrays([0, 1, 1, 2], pa.array(["1.5", None, "2"])),
    "chunks with a null among the labels": lambda: pa.chunked_array([ARROW["a null among the labels"]()]),
    "an extension type": lambda: pa.ExtensionArray.from_storage(OPAQUE, pa.array([1.5, None, None, 2.0])),
}


@pytest.mark.parametrize("name", ARROW)
def test_types_of_arrow_that_pandas_lacks(name):
    array = ARROW[name]()
    held = [pd.Series(array, dtype=pd.ArrowDtype(array.type))] if "labels" in name else []
    for column in (array, *held):
        np.testing.assert_array_equal(read_cells(column).as_numbers().values, [1.5, math.nan, math.nan, 2.0])
    assert len(pandas_frame(pa.table({"a": ARROW[name]()}))) == 4


def test_tensors_of_any_layout_are_read():
    assert plain_array(torch.tensor([[0.0, 2.0]]).to_sparse()).tolist() == [[0.0, 2.0]]
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        assert plain_array(torch.tensor([[0.0, 2.0]]).to(dtype)).tolist() == [[0.0, 2.0]]
    assert plain_array([torch.tensor([0.0, 2.0], requires_grad=True)]).tolist() == [[0.0, 2.0]]


def test_decimal_numbers_lose_no_digit_silently():
    for values in ([Decimal(2**60 + 1), Decimal(3)], pa.array([2**60 + 1, 3], pa.decimal128(38, 0))):
        assert "2^53" in read_cells(values).as_numbers().problem.words
    assert read_cells([Decimal("1e20") + Decimal("0.5"), Decimal("sNaN")]).as_numbers().problem is None
    assert read_cells([Decimal("2.5"), Decimal("sNaN")]).is_missing.tolist() == [False, True]


def test_bytes_that_are_no_text_are_a_problem():
    assert read_cells([b"red", b"blue"]).as_labels().labels == ("blue", "red")
    assert "bytes" in read_cells([b"red", b"\xff", b"\xfe"]).as_labels().problem.words


def test_cells_that_hold_arrays_are_a_problem():
    assert "array of shape (2,)" in read_cells(np.zeros((3, 2))).as_numbers().problem.words


def test_invisible_signs_at_the_ends_make_no_label_and_no_name():
    assert read_cells(["x", "x\u200b", "\ufeffx", "y \u2060"]).as_labels().labels == ("x", "y")
    assert open_table(io.BytesIO("\ufeff\ufeffage,b\n1,2\n".encode())).names == ("age", "b")
    assert read_rows(pd.DataFrame({"\ufeffage": [1.0]}), (Column("age"),)).tolist() == [[1.0]]


@pytest.mark.parametrize("name", ["cafe\u0301", "\ufeffage", "caf\u00e9"])
def test_names_of_a_fit_are_found_in_files_in_any_form_of_unicode(name, tmp_path):
    for spelled in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
        frame = pd.DataFrame({spelled: [1.5, 2.5], "b": [3.0, 4.0]})
        frame.to_csv(tmp_path / "t.csv", index=False)
        frame.to_parquet(tmp_path / "t.parquet")
        for source in (frame, tmp_path / "t.csv", tmp_path / "t.parquet"):
            assert read_rows(source, (Column("b"), Column(name))).tolist() == [[3.0, 1.5], [4.0, 2.5]]


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of the type itself
def test_a_matrix_is_an_array():
    assert read_rows(np.matrix([[1.0, 2.0]]), (Column("x0"), Column("x1"))).tolist() == [[1.0, 2.0]]
    assert type(plain_array(np.matrix([[1.0]]))) is np.ndarray
    assert type(plain_array(np.ma.masked_array([1.0], [True]))) is np.ma.MaskedArray


def test_texts_that_look_alike_are_one_label():
    composed, apart = "caf\u00e9", "cafe\u0301"
    labels = read_cells([composed, apart, "tea"]).as_labels()
    assert labels.labels == (composed, "tea")
    assert labels.codes.tolist() == [0, 0, 1]
    assert read_cells([apart, composed]).as_labels((apart, "tea")).codes.tolist() == [0, 0]
    assert read_cells(pd.Categorical([apart, composed], categories=[apart, composed])).as_labels().labels == (composed,)
