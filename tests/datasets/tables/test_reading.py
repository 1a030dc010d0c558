"""Options of reading are checked, saved and restored."""

import json
import os
from pathlib import Path

import pytest

from drl_density import ReadOptions
from drl_density.datasets.tables.reading import MISSING_TOKENS, is_missing_text, is_pipe, missing_extra
from drl_density.errors import DataError


def test_options_are_saved_as_json():
    made = ReadOptions("none", ("-9", "x"), ",", ".", ";", "latin-1", "#", "drop")
    assert ReadOptions.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert ReadOptions.from_dict({}) == ReadOptions()


BAD = {
    "header": ({"header": "first"}, "header must be one of"),
    "decimal": ({"decimal": "'"}, "decimal must be one of"),
    "delimiter": ({"delimiter": ";;"}, "delimiter must be one sign"),
    "comment": ({"comment": "//"}, "comment must be one sign"),
    "encoding": ({"encoding": "utf-9"}, "encoding 'utf-9' is unknown"),
    "equal signs": ({"decimal": ",", "thousands": ","}, "cannot both be ','"),
}


@pytest.mark.parametrize("name", BAD)
def test_impossible_options_are_refused(name):
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        ReadOptions(**options)


def test_marks_of_missing_values():
    assert all(is_missing_text(f" {token.upper()} ") for token in MISSING_TOKENS)
    assert not any(is_missing_text(text) for text in ("0", "no", "nano", "nil.", "false"))
    assert is_missing_text("Unknown", ReadOptions(missing_values=(" unknown",)))
    assert ReadOptions(thousands=",").decimal_sign == "."
    assert ReadOptions().decimal_sign == "auto"


def test_a_missing_package_names_the_extra():
    assert isinstance(missing_extra("t", "reading needs x"), DataError)
    assert str(missing_extra("t", "reading needs x")).endswith("pip install 'drl-density[tables]'")


def test_pipes_devices_and_names_of_open_files_are_no_plain_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/3"):
        assert is_pipe(Path(path))
    (tmp_path / "a.csv").write_text("a\n1\n")
    for path in (tmp_path, tmp_path / "a.csv", tmp_path / "none", "/dev/shm", "/dev/shm/a.csv"):
        assert not is_pipe(Path(path))
