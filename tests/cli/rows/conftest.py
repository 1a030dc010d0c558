"""Small row groups, so that a table of a few rows has several."""

import importlib

import pytest


@pytest.fixture
def small_groups(monkeypatch):
    """Row groups of 4 rows in every command."""
    for name in ("sample", "score", "outliers", "impute", "predict"):
        monkeypatch.setattr(importlib.import_module(f"drl_density.cli.rows.{name}"), "ROWS_AT_ONCE", 4)


@pytest.fixture
def few(table, tmp_path):
    """The first ten rows of the table, with a further column of text."""
    lines = table.read_text().splitlines()[:11]
    path = tmp_path / "few.csv"
    path.write_text("\n".join([f"{lines[0]},note", *(f"{line},00{index}" for index, line in enumerate(lines[1:]))]) + "\n")
    return path
