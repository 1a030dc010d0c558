"""Options of reading on the command line: what is not given follows the fit."""

import dataclasses

import tyro

from drl_density.cli.reading import ReadsTable
from drl_density.datasets import ReadOptions


def parse(*words):
    return tyro.cli(ReadsTable, args=list(words))


def test_nothing_given_follows_the_fit():
    fitted = ReadOptions(decimal=",", missing_values=("-9",), index="keep")
    assert parse().reading(fitted) == fitted
    assert parse().reading() == ReadOptions()


def test_each_option_of_reading_is_an_option_of_the_command():
    made = parse(
        *["--header", "none", "--missing-values", "-999", "unknown"],
        *["--decimal", ",", "--thousands", "", "--delimiter", "tab"],
        *["--encoding", "latin-1", "--comment", "%", "--index", "drop"],
    )
    expected = ReadOptions("none", ("-999", "unknown"), ",", "", "\t", "latin-1", "%", "drop")
    assert made.reading() == expected
    given, untouched = dataclasses.asdict(expected), dataclasses.asdict(ReadOptions())
    assert all(given[name] != untouched[name] for name in given)


def test_an_option_given_replaces_that_of_the_fit():
    assert parse("--decimal", ".").reading(ReadOptions(decimal=",", header="none")) == ReadOptions("none", decimal=".")
