"""A table as it was read: numbers, codes of labels, missing values, and what is wrong with a column."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from drl_density.datasets.tables.cells import MOST_CATEGORIES, array_numbers, guess_column, read_cells, stored_as
from drl_density.datasets.tables.meaning import TOKENS, Cells, Problem, composed
from drl_density.errors import DataError, DataWarning

MOST_NAMED = 6
"""Columns that cannot be used of which a message gives the reasons."""


@dataclass(frozen=True, eq=False)
class RawTable:
    """A table as it was read.

    Attributes:
        values: numbers ``(rows, columns)``; NaN for missing values, and for cells that are no numbers.
        names: names of the columns, in order.
        event_shape: shape of one point.
        categories: labels behind the codes of each column of labels, by name.
        texts: original cells of each column of text or dates, by name; "" for a missing value.
        first_row: number that messages give to the first row.
        storage: type in which a value is written back, by name; "float64" where a name is absent.
        problems: first cell that cannot be used, of each column that has one, by name. A column that is dropped, split
            by or declared "categorical" may have one.
        notes: guess that the user should be aware of, by name of the column.
        cells: cells of each column before their meaning was decided, by name; absent for a plain array of numbers.
    """

    values: np.ndarray
    names: tuple[str, ...]
    event_shape: tuple[int, ...]
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    texts: dict[str, np.ndarray] = field(default_factory=dict)
    first_row: int = 1
    storage: dict[str, str] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    cells: dict[str, Cells] = field(default_factory=dict)

    def select(self, names: Sequence[str]) -> RawTable:
        """Only the columns ``names``, in this order."""
        columns = [self.names.index(name) for name in names]
        parts = ("categories", "texts", "storage", "problems", "notes", "cells")
        kept = {part: {name: value for name, value in getattr(self, part).items() if name in names} for part in parts}
        return replace(self, values=self.values[:, columns], names=tuple(names), event_shape=(len(columns),), **kept)

    def take(self, rows: np.ndarray) -> RawTable:
        """Only some rows, for a table whose columns are all decided.

        Args:
            rows: boolean mask or indices.
        """
        texts = {name: cells[rows] for name, cells in self.texts.items()}
        return replace(self, values=self.values[rows], texts=texts, cells={})

    def with_labels(self, labels: Mapping[str, Sequence[str] | None]) -> RawTable:
        """The table with some columns read as labels.

        Args:
            labels: by name of the column, its labels in the order of their codes; None takes the labels it has.
        """
        values = self.values.copy()
        kept = {part: dict(getattr(self, part)) for part in ("categories", "storage", "problems", "notes")}
        for name, known in labels.items():
            index = self.names.index(name)
            cells = self.cells.get(name) or read_cells(self.values[:, index])
            found = cells.as_labels(known)
            values[:, index] = found.codes
            kept["categories"][name], kept["storage"][name] = found.labels, found.storage
            kept["problems"].pop(name, None)
            kept["notes"].pop(name, None)
            if found.problem is not None:
                kept["problems"][name] = found.problem
        return replace(self, values=values, **kept)

    def with_declared_labels(self, columns: Mapping[str, Mapping[str, Any]]) -> RawTable:
        """The table with the columns read as labels that are declared so, by their kind or by their labels.

        Args:
            columns: declared properties of columns, by name.
        """
        declared = {name: known for name, known in declared_labels(columns).items() if name in self.names}
        return self.with_labels(declared) if declared else self

    def warn_of_guesses(self, where: str, *, stacklevel: int) -> None:
        """Warn of every guess about the kind of a column.

        Args:
            where: name of the source, for the message.
            stacklevel: level of the caller's frame that the warning names.
        """
        for name, note in self.notes.items():
            warnings.warn(
                f"{where or 'the table'}: column {name!r}: {note}; if they are labels, declare them with "
                f"columns={{{name!r}: {{'kind': 'categorical'}}}}",
                DataWarning,
                stacklevel=stacklevel + 1,
            )

    def refuse_problems(self, where: str) -> None:
        """Refuses columns that cannot be used.

        Args:
            where: name of the source, for the message.

        Raises:
            DataError: the first such column, with its first row that is wrong and what to do about it; then the others.
        """
        refused = [name for name in self.names if name in self.problems]
        if refused:
            raise DataError(f"{where or 'the table'}: {self._problem(refused[0])}{self._further_problems(refused)}")

    def _problem(self, name: str) -> str:
        """What is wrong with a column that cannot be used, and what to do about it."""
        row, words, is_text = self.problems[name]
        typed = shlex.quote(name)
        remedy = f"correct the cell, or leave the column out with drop=[{name!r}] (--drop {typed})"
        if is_text and name in self.cells and self.cells[name].kind == "dates":
            remedy = (
                f"dates and times are labels only if declared, columns={{{name!r}: {{'kind': 'categorical'}}}} "
                f"(--categorical {typed}); {remedy}, or split by it (--group {typed}, --time {typed})"
            )
        elif is_text and name in self.cells:
            codes = self.cells[name].as_labels()
            remedy = (
                f"its column has {len(codes.labels)} values, too many for labels (at most {MOST_CATEGORIES}, and half "
                f"as many as rows); {remedy}, declare it with columns={{{name!r}: {{'kind': 'categorical'}}}} "
                f"(--categorical {typed}), or split by it (--group {typed}, --time {typed})"
            )
        elif "2^53" in words:
            remedy = (
                f"leave the column out with drop=[{name!r}] (--drop {typed}), or, if these are labels, declare it with "
                f"columns={{{name!r}: {{'kind': 'categorical'}}}} (--categorical {typed})"
            )
        elif "infinite" in words:
            remedy = f"correct the cell, or mark it as a missing value; or drop the column with drop=[{name!r}]"
        return f"column {name!r}, row {self.first_row + row}: {words}; {remedy}"

    def _further_problems(self, refused: Sequence[str]) -> str:
        """The columns after the first that cannot be used either, and how to leave out all of them."""
        if len(refused) < 2:
            return ""
        shown = [(name, self.problems[name]) for name in refused[1:MOST_NAMED]]
        parts = [f"{name!r} (row {self.first_row + found.row}: {found.words})" for name, found in shown]
        more = len(refused) - 1 - len(shown)
        parts += [f"{more} more"] if more else []
        typed = " ".join(shlex.quote(name) for name in refused)
        return (
            f". The same holds for {', '.join(parts)}. To leave out all {len(refused)}: drop={list(refused)!r} "
            f"(--drop {typed})"
        )


def declared_labels(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Sequence[str] | None]:
    """Columns that are declared as labels, by their kind or by their labels, with those labels.

    Args:
        columns: declared properties of columns, by name.

    >>> declared_labels({"a": {"kind": "categorical"}, "b": {"lower": 0.0}})
    {'a': None}
    """
    return {
        name: properties.get("categories")
        for name, properties in columns.items()
        if properties.get("kind") == "categorical" or "categories" in properties
    }


def as_table(
    columns: Sequence[Any],
    names: Sequence[Any],
    *,
    first_row: int = 1,
    tokens: frozenset[str] = TOKENS,
    notes_numbers: bool = True,
    where: str = "",
) -> RawTable:
    """The table of separate columns, each of any form that :func:`~drl_density.datasets.tables.cells.read_cells` reads.

    Args:
        columns: cells of each column.
        names: name of each column; a tuple, as of a frame with several levels, is joined by "_".
        first_row: number that messages give to the first row.
        tokens: texts that mean a missing value, in lower case.
        notes_numbers: whether a column of texts that are all numbers gets a note, as in a typed frame.
        where: name of the source, for the message.

    Raises:
        DataError: no columns, two columns of one name, or columns of different lengths.

    >>> as_table([["1", "NA"], [True, False]], ["a", "b"]).storage
    {'a': 'int64', 'b': 'bool'}
    """
    texts_of_names = column_names(names, where=where)
    found = [read_cells(column, tokens=tokens) for column in columns]
    lengths = sorted({len(cells) for cells in found})
    if len(lengths) > 1:
        raise DataError(
            f"{where or 'the table'}: columns have different numbers of rows: {', '.join(map(str, lengths))}"
        )
    table = RawTable(np.empty((lengths[0], len(found))), texts_of_names, (len(found),), first_row=first_row)
    for index, (name, cells) in enumerate(zip(texts_of_names, found, strict=True)):
        guess = guess_column(cells)
        table.values[:, index] = guess.values
        table.cells[name], table.storage[name] = cells, guess.storage
        if guess.labels is not None:
            table.categories[name] = guess.labels
        if guess.problem is not None:
            table.problems[name] = guess.problem
        if guess.note and (notes_numbers or cells.order is not None):
            table.notes[name] = guess.note
        is_text = guess.labels is not None or (guess.problem is not None and guess.problem.is_text)
        if is_text or cells.kind == "dates":
            texts = cells.values.astype(object)
            texts[cells.is_missing] = ""
            table.texts[name] = texts
    return table


def array_table(array: np.ndarray, names: Sequence[str] | None = None, *, where: str = "the array") -> RawTable:
    """The table of an array of rows by columns, or of points of any shape ``(rows, ...)``.

    Args:
        array: array of any type, masked or not; one of texts, objects or records is read column by column.
        names: name of each column; x0, x1, ... when None.
        where: name of the source, for the message.

    Raises:
        DataError: fewer than two dimensions, or cells that are no real numbers.

    >>> array_table(np.zeros((5, 2, 2))).event_shape
    (2, 2)
    """
    if array.dtype.names is not None:
        flat = array.reshape(-1)
        return as_table([flat[name] for name in array.dtype.names], array.dtype.names, where=where)
    if array.ndim >= 2 and not len(array):
        raise DataError(f"{where}: has no rows: its shape is {array.shape}; give at least one")
    if array.ndim < 2:
        raise DataError(f"{where}: expected rows by columns, or images (n, ...), got shape {array.shape}")
    event_shape = tuple(int(size) for size in array.shape[1:])
    if 0 in event_shape:
        raise DataError(f"{where} has no columns: its shape is {array.shape}; give at least one")
    flat = array.reshape(len(array), -1)
    names = tuple(names) if names is not None else tuple(f"x{index}" for index in range(flat.shape[1]))
    if array.dtype.kind in "OUST":
        table = as_table([flat[:, place] for place in range(flat.shape[1])], names, where=where)
        return replace(table, event_shape=event_shape)
    values = array_numbers(flat, where=where)
    problems = {}
    is_bad = np.isinf(values)
    for place in np.flatnonzero(is_bad.any(0)).tolist():
        row = int(is_bad[:, place].argmax())
        problems[names[place]] = Problem(row, f"{values[row, place]} is infinite, which is no missing value")
    storage = dict.fromkeys(names, stored_as(array.dtype))
    return RawTable(values, names, event_shape, storage=storage, problems=problems)


def column_names(names: Sequence[Any], *, where: str = "") -> tuple[str, ...]:
    """The names of columns as texts; a tuple of names is joined by "_".

    Raises:
        DataError: no names, or two columns whose names are the same as texts.

    >>> column_names([("size", "mean"), 3])
    ('size_mean', '3')
    """
    texts = tuple(
        "_".join(str(part) for part in name if str(part)) if isinstance(name, tuple) else str(name) for name in names
    )
    if not texts:
        raise DataError(f"{where or 'the table'} has no columns; give at least one")
    seen = [composed(text) for text in texts]
    repeated = sorted({text for text in seen if seen.count(text) > 1})
    if repeated:
        same = [repr(name) for name, text in zip(names, seen, strict=True) if text == repeated[0]]
        raise DataError(
            f"{where or 'the table'}: columns named twice: {', '.join(repeated)} ({', '.join(same)}); names are compared as "
            "texts: give each column its own"
        )
    return texts
