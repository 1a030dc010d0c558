"""The rows of a fit are loaded again to the last bit, or not at all."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.density.provenance import RowDigest
from drl_density.density.storage.fit_rows import load_fit_rows
from drl_density.errors import DataError


def provenance_of(data):
    return drl.density.Provenance(source=data.source, loading=data.loading, rows=RowDigest.of(data))


def write(path, rows, names=("a", "b")):
    pd.DataFrame(np.asarray(rows), columns=list(names)).to_csv(path, index=False)


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(100, 2))


@pytest.fixture
def table(rows, tmp_path):
    write(tmp_path / "table.csv", rows)
    return tmp_path / "table.csv"


@pytest.fixture
def provenance(table, monkeypatch):
    """Of a fit to a table that was given by a relative path."""
    monkeypatch.chdir(table.parent)
    return provenance_of(drl.load_dataset("table.csv", seed=3))


def test_the_same_rows_from_any_folder(provenance, table, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert provenance.source == str(table)
    again = load_fit_rows(provenance)
    assert torch.equal(again.test, drl.load_dataset(str(table), seed=3).test)


@pytest.mark.parametrize("name", ["array.npz:b", "array.npy"])
def test_relative_arrays_are_found_too(name, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("array.npz", a=rows + 1, b=rows)
    np.save("array.npy", rows)
    provenance = provenance_of(drl.load_dataset(name, seed=0))
    monkeypatch.chdir("/")
    assert load_fit_rows(provenance).num_columns == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: np.r_[x, x[:60] + 5], "there were 100 rows, and there are 160 now"),
        (lambda x: x[:-1], "there were 100 rows, and there are 99 now"),
        (lambda x: np.r_[x[:-1], [[0.0, 0.0]]], "the values of the rows, their order or their split have changed"),
        (lambda x: x[::-1], "the values of the rows, their order or their split have changed"),
    ],
)
def test_changed_rows_are_never_called_test_rows(change, words, provenance, table, rows):
    write(table, change(rows))
    with pytest.raises(DataError, match=rf"table.csv has changed since the fit: {words}.*give a table"):
        load_fit_rows(provenance)


@pytest.mark.parametrize(
    ("names", "words"),
    [(("a", "c"), "columns are gone: b; columns are new: c"), (("b", "a"), "the order of the columns has changed")],
)
def test_changed_columns(names, words, provenance, table, rows):
    write(table, rows, names)
    with pytest.raises(DataError, match=words):
        load_fit_rows(provenance)


def test_a_dropped_column_that_is_gone(table, rows):
    provenance = provenance_of(drl.load_dataset(str(table), seed=0, drop=["b"]))
    write(table, rows, ("a", "c"))
    with pytest.raises(DataError, match="the rows of this fit cannot be loaded again: .*cannot drop b.*give a table"):
        load_fit_rows(provenance)


def test_a_source_that_moved(provenance, table):
    table.rename(table.with_name("moved.csv"))
    with pytest.raises(DataError, match=r"cannot be loaded again: there is no file .*table.csv'; give a table"):
        load_fit_rows(provenance)


def test_arrays_in_memory_and_no_rows_at_all(rows):
    with pytest.raises(DataError, match="array or a frame in memory.*give a table"):
        load_fit_rows(provenance_of(drl.load_dataset(rows, seed=0)))
    with pytest.raises(DataError, match="was not fitted to rows"):
        load_fit_rows(drl.density.Provenance(source="banana"))


def test_weights_count_as_rows(table, rows):
    write(table, np.c_[rows, np.ones(len(rows))], ("a", "b", "w"))
    provenance = provenance_of(drl.load_dataset(str(table), split=drl.Split(seed=0, weights="w")))
    assert load_fit_rows(provenance).weights is not None
    write(table, np.c_[rows, np.arange(1, 1 + len(rows))], ("a", "b", "w"))
    with pytest.raises(DataError, match="has changed since the fit"):
        load_fit_rows(provenance)


def test_a_fit_keeps_the_digest_of_its_rows(tiny_density, tiny_data):
    kept = tiny_density.provenance.rows
    assert kept == RowDigest.of(tiny_data)
    assert (kept.num_train, kept.num_validation, kept.num_test, kept.num_rows) == (320, 40, 40, 400)
    assert drl.density.Provenance.from_dict(tiny_density.provenance.to_dict()) == tiny_density.provenance
    other = dataclasses.replace(tiny_data, train=tiny_data.validation, validation=tiny_data.train)
    assert RowDigest.of(other).digest != kept.digest
