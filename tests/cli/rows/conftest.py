"""Small row groups, so that a table of a few rows has several, and commands that are interrupted between them."""

import contextlib
import importlib

import pytest

import drl_density as drl
from drl_density.cli import main


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
    path.write_text(
        "\n".join([f"{lines[0]},note", *(f"{line},00{index}" for index, line in enumerate(lines[1:]))]) + "\n"
    )
    return path


@pytest.fixture
def interrupted_call(monkeypatch):
    """A context that interrupts the third call of a method of a density; gives the keyword arguments of all calls."""

    @contextlib.contextmanager
    def interrupted_call(name):
        real, calls = getattr(drl.Density, name), []

        def interrupted(self, *rest, **more):
            calls.append(more)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(self, *rest, **more)

        with monkeypatch.context() as patched:
            patched.setattr(drl.Density, name, interrupted)
            yield calls

    return interrupted_call


@pytest.fixture
def resumed_like_whole(interrupted_call, tmp_path):
    """A check that a command gives the same file whether it was interrupted or not; gives the paths of both files."""

    def resumed_like_whole(arguments, method):
        whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
        assert main([*arguments, "--out", str(whole)]) == 0
        with interrupted_call(method):
            assert main([*arguments, "--out", str(out)]) == 130
        assert main([*arguments, "--out", str(out), "--resume"]) == 0
        assert out.read_bytes() == whole.read_bytes()
        return whole, out

    return resumed_like_whole
