"""Loads, describes and splits data sets by name, from files and from arrays."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.datasets.column import Column
from drl_density.datasets.columns import notice_columns
from drl_density.datasets.dataset import Dataset
from drl_density.datasets.image_files import find_images
from drl_density.datasets.images import split_images
from drl_density.datasets.large.dask_table import as_pandas, is_dask_frame
from drl_density.datasets.large.loading import large_table, load_large
from drl_density.datasets.large.scan import Treatment
from drl_density.datasets.splits import Split, copies_are_leaks, row_groups, split_rows
from drl_density.datasets.tables.chunks import is_table
from drl_density.datasets.tables.coding import Missing, encode_table
from drl_density.datasets.tables.raw_table import RawTable, declared_labels
from drl_density.datasets.tables.reading import ReadOptions
from drl_density.datasets.tables.sources import BUNDLED, read_table, without
from drl_density.datasets.toys import TOYS
from drl_density.errors import DataError, DataWarning, see

DECLARED = {"digits": {"kind": "integer", "width": 1.0, "lower": -0.5, "upper": 16.5}}


@outside_inference_mode
def load_dataset(
    source: Any,
    *,
    seed: int | None = None,
    split: Split | None = None,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    drop: Sequence[str] = (),
    missing: str = "refuse",
    reading: ReadOptions | None = None,
    max_rows_in_memory: int | None = None,
    num_rows: int = 10_000,
    image_size: int | None = None,
) -> Dataset:
    """Load a data set, recognise the kinds of its columns, and split its rows.

    A source is one of these. Nothing is downloaded.

    - The name of a bundled real data set: digits, wine, breast_cancer or diabetes.
    - The name of a toy with known density: eight_gaussians, checkerboard, two_rings or banana.
    - A text table (.csv, .tsv, .txt, .dat, .data; .gz, .bz2, .xz and .zst may follow), ``"-"`` for standard input, or an
      open file. The page "Tables: how each cell is read" of the documentation has every kind of cell.
    - A Parquet file, or a folder of Parquet files.
    - An array in .npy, .npz or .nc; ``file.npz:name`` picks one array.
    - An array, a tensor or a DataFrame of numbers and labels.
    - 8-bit images: a folder of image files, with one folder per class or with ``train`` and ``test`` folders; idx
      files; an .npz with x_train; a uint8 array; a torchvision or Hugging Face data set in memory.

    Args:
        source: name, file, array or object, as listed above.
        seed: integer that fixes the split, short for ``split=Split(seed=...)``; 0 when neither is given.
        split: shares of the parts, and columns that group, order or weigh the rows.
        columns: declared properties of columns, e.g. ``{"age": {"lower": 0.0}}``; they replace what is recognised.
        drop: names of columns to leave out.
        missing: treatment of rows with missing values: "refuse" them, "drop" them, or "draw" the values while fitting.
        reading: how text is read: header, decimal sign, further texts for missing values, encoding and more.
        max_rows_in_memory: rows up to which a table is loaded whole. From a larger one (Parquet, a folder of Parquet files,
            text, a Dask DataFrame) uniform samples of so many rows follow one another during training. By default tables
            of more than 2^26 cells are larger, and samples have a million rows, or 2^25 cells.
        num_rows: number of rows to draw from a toy.
        image_size: side in pixels to which the largest centred square of image files is scaled; None keeps the sizes.

    Raises:
        DataError: data that cannot be used; the message names the file, column and row.

    >>> data = load_dataset("wine", seed=0)
    >>> data.num_columns, data.columns[0].kind
    (13, 'continuous')
    """
    split = Split() if split is None else split
    drop = (drop,) if isinstance(drop, str) else drop
    if seed is not None:
        split = dataclasses.replace(split, seed=seed)
    loading = {
        "split": dataclasses.asdict(split),
        "columns": dict(columns or {}),
        "drop": list(drop),
        "missing": missing,
        "reading": (reading or ReadOptions()).to_dict(),
    }
    if isinstance(source, str) and source in TOYS:
        return _toy(source, split, {**loading, "num_rows": num_rows})
    labels = [*declared_labels(columns or {}), *([split.group] if split.group is not None else [])]
    large = large_table(source, reading=reading, labels=labels, max_rows_in_memory=max_rows_in_memory)
    if large is not None:
        loaded = load_large(
            large,
            split=split,
            columns=columns,
            drop=drop,
            missing=_missing_choice(missing),
            max_rows_in_memory=max_rows_in_memory,
        )
        return dataclasses.replace(
            loaded,
            source=_kept_source(loaded.source),
            loading={**loading, "max_rows_in_memory": max_rows_in_memory},
        )
    if is_dask_frame(source):
        source = as_pandas(source)
    images = None if is_table(source) else find_images(source, image_size)
    if images is not None:
        if columns or drop:
            raise DataError("images have no columns to declare or drop; every pixel is an 8-bit value 0..255")
        found = split_images(*images, split)
        return dataclasses.replace(
            found, source=_kept_source(found.source), loading={**loading, "image_size": image_size}
        )
    if image_size is not None:
        raise DataError("image_size scales image files; this source is a table or an array")
    name, again, where, table = read_table(source, reading=reading, drop=drop, labels=labels)
    table, extra = _set_aside(table, split, where)
    declared = DECLARED.get(name, {}) if again in BUNDLED else {}
    columns = {name: dict(declared) for name in table.names if declared} | dict(columns or {})
    table = table.with_declared_labels(columns)
    table.refuse_problems(where)
    table.warn_of_guesses(where, stacklevel=3)
    table, kept = _without_missing(table, missing, where)
    extra = {role: values[kept] for role, values in extra.items()}
    found = notice_columns(
        table.values, table.names, categories=table.categories, storages=table.storage, overrides=columns
    )
    divided = _divide(name, again, table, found, split, extra)
    return dataclasses.replace(divided, source=_kept_source(again), loading=loading)


def _kept_source(source: str) -> str:
    """A source that is found from any working folder: absolute for a path, unchanged for a name or an array in memory."""
    return source if not source or source in BUNDLED else os.path.abspath(source)


def load_again(source: str, loading: Mapping[str, Any]) -> Dataset:
    """Loads the rows of a :class:`Dataset` again, in the same split.

    Args:
        source: the ``source`` of that data set.
        loading: the ``loading`` of that data set.

    Raises:
        DataError: rows that were an array in memory, or a source that no longer exists.

    >>> data = load_dataset("banana", seed=0, num_rows=100)
    >>> bool((load_again(data.source, data.loading).test == data.test).all())
    True
    """
    if not source:
        raise DataError(
            "the rows of this fit were an array in memory or standard input, and cannot be loaded again; give a table"
        )
    options: dict[str, Any] = {"split": Split(**loading["split"])}
    if "reading" in loading:
        options["reading"] = ReadOptions.from_dict(loading["reading"])
    return load_dataset(source, **{**loading, **options})


def _toy(name: str, split: Split, loading: dict[str, Any]) -> Dataset:
    toy, num_rows = TOYS[name](), loading["num_rows"]
    values = toy.sample(num_rows, generator=torch.Generator().manual_seed(split.seed))
    parts = split_rows(np.arange(num_rows), split)
    return Dataset(
        name=name,
        train=values[torch.as_tensor(parts.train)],
        validation=values[torch.as_tensor(parts.validation)],
        test=values[torch.as_tensor(parts.test)],
        columns=(Column("x0"), Column("x1")),
        event_shape=(2,),
        source=name,
        loading=loading,
        known_log_density=toy.log_density,
    )


def _set_aside(table: RawTable, split: Split, where: str) -> tuple[RawTable, dict[str, np.ndarray]]:
    """Takes the columns that group, order and weigh the rows out of the table."""
    roles = {role: getattr(split, role) for role in ("group", "time", "weights") if getattr(split, role) is not None}
    missing = [name for name in roles.values() if name not in table.names]
    if missing:
        raise DataError(
            f"{where or 'the table'}: there is no column {', '.join(missing)} to split or weigh by; columns are "
            f"{', '.join(table.names)}"
        )
    extra = {role: _aside(table, name, role, where) for role, name in roles.items()}
    return without(table, list(roles.values()), where), extra


def _aside(table: RawTable, name: str, role: str, where: str) -> np.ndarray:
    """One number per row from the column that groups, orders or weighs the rows; text groups, and dates order.

    Raises:
        DataError: missing values, text that is no date, or weights that are not positive numbers.
    """
    values, cells = table.values[:, table.names.index(name)], table.texts.get(name)
    if cells is not None and role == "group":
        is_empty = np.array([str(cell).strip() == "" for cell in cells])
        values = np.where(is_empty, np.nan, np.unique([str(cell) for cell in cells], return_inverse=True)[1])
    elif cells is not None and role == "time":
        try:
            named = [str(cell).strip() or "NaT" for cell in cells]
            if any(name.lower() in ("now", "today") for name in named):  # NumPy takes them for the time of the reading
                raise ValueError("'now' and 'today' are no dates")
            dates = np.asarray(named, dtype="datetime64[ns]")
        except ValueError as error:
            raise DataError(
                f"{where or 'the table'}: column {name!r} must order the rows by time, but has text that is no ISO date "
                f"such as 2024-01-31 or 2024-01-31T12:00 ({error})"
            ) from error
        values = np.where(np.isnat(dates), np.nan, dates.astype(np.int64).astype(np.float64))
    bad = ~np.isfinite(values) if role != "weights" else ~(np.isfinite(values) & (values > 0))
    if bad.any():
        what = "must be a positive number" if role == "weights" else f"is empty, so the row has no {role}"
        raise DataError(
            f"{where or 'the table'}: column {name!r}, row {table.first_row + int(bad.argmax())}: {what} "
            f"({int(bad.sum())} such rows)"
        )
    return values


def _missing_choice(missing: str) -> Treatment:
    if missing not in ("refuse", "drop", "draw"):
        raise DataError(f'missing must be "refuse", "drop" or "draw", got {missing!r}')
    return missing


def _without_missing(table: RawTable, missing: str, where: str) -> tuple[RawTable, np.ndarray]:
    _missing_choice(missing)
    is_bad = ~np.isfinite(table.values)
    kept = np.asarray(~is_bad.any(1))
    if kept.all():
        return table, kept
    row, column = np.argwhere(is_bad)[0]
    if missing == "refuse":
        raise DataError(
            f"{where or 'the table'}: {int(is_bad.sum())} cells in {int((~kept).sum())} rows are missing, "
            f"the first in column {table.names[column]!r}, row {table.first_row + row}. Choose: drop those rows with "
            'missing="drop" (--missing drop), or have the missing cells drawn from the model while it is fitted with '
            'missing="draw" (--missing draw), which assumes that the reason may depend on observed cells alone; '
            + see("Questions and answers", "How are missing values and labels treated?")
        )
    if missing == "draw":
        return _with_missing(table, where)
    if not kept.any():
        raise DataError(f"{where or 'the table'}: every row has a missing value; drop the columns that cause it")
    warnings.warn(
        f"dropped {int((~kept).sum())} of {len(kept)} rows with missing values; the density is that of complete rows",
        DataWarning,
        stacklevel=4,
    )
    return table.take(kept), kept


def _with_missing(table: RawTable, where: str) -> tuple[RawTable, np.ndarray]:
    """The table with NaN for missing values, without rows that have no value at all."""
    if np.isinf(table.values).any():
        row, column = np.argwhere(np.isinf(table.values))[0]
        raise DataError(
            f"{where or 'the table'}: column {table.names[column]!r}, row {table.first_row + row} is infinite, which is "
            "no missing value; mark those with NaN or an empty cell"
        )
    is_missing = np.isnan(table.values)
    empty = [name for name, column in zip(table.names, is_missing.T, strict=True) if column.all()]
    if empty:
        raise DataError(f"{where or 'the table'}: columns without a single value: {', '.join(empty)}; drop them")
    kept = np.asarray(~is_missing.all(1))
    if not kept.all():
        warnings.warn(f"left out {int((~kept).sum())} rows without a single value", DataWarning, stacklevel=5)
    return table.take(kept), kept


def _divide(
    name: str,
    where: str,
    table: RawTable,
    columns: tuple[Column, ...],
    split: Split,
    extra: dict[str, np.ndarray],
) -> Dataset:
    values = table.values
    if len(values) < 10 * values.shape[1]:
        warnings.warn(
            f"{len(values)} rows for {values.shape[1]} columns: fewer than 10 rows per column; expect a density little "
            "better than its marginals",
            DataWarning,
            stacklevel=4,
        )
    for column in columns:
        if column.kind == "categorical":
            warnings.warn(
                f"column {column.name!r} has labels; they are coded 0, 1, ... in the order {column.first_labels}, which the "
                "density treats as an order, unless a tilt learns each label by itself",
                DataWarning,
                stacklevel=4,
            )
    distinct = row_groups(np.where(np.isnan(values), np.inf, values))
    is_discrete = not copies_are_leaks(columns)
    every_row_by_itself = is_discrete and distinct.max() + 1 < len(values)
    groups = extra.get("group", np.arange(len(values)) if every_row_by_itself else distinct)
    cells = distinct if is_discrete and "group" not in extra else None
    parts = split_rows(groups, split, times=extra.get("time"), cells=cells)
    weights = extra.get("weights")
    return Dataset(
        name=name,
        train=torch.as_tensor(values[parts.train]),
        validation=torch.as_tensor(values[parts.validation]),
        test=torch.as_tensor(values[parts.test]),
        columns=columns,
        event_shape=table.event_shape,
        weights=None if weights is None else torch.as_tensor(weights[parts.train]),
        source=where,
        validation_weights=None if weights is None else torch.as_tensor(weights[parts.validation]),
    )


def read_rows(
    source: Any,
    columns: Sequence[Column],
    *,
    missing: Missing = "refuse",
    absent: Sequence[str] = (),
    reading: ReadOptions | None = None,
) -> Tensor:
    """Reads the rows of a new table in the order and coding of known columns, ``(rows, d)``, float64.

    The known columns decide what a cell means. In a file or frame with named columns, a column of labels holds labels,
    never codes. An array of numbers holds codes.

    Args:
        source: a file, an array, a tensor or a data frame.
        columns: columns of the fit, in order.
        missing: treatment of missing values: "refuse" them, or "keep" them as NaN.
        absent: names of columns that the table may lack; they become NaN.
        reading: how text is read; as in the fit when it is that of ``Dataset.loading``.

    Raises:
        DataError: missing columns, unknown labels, texts in a column of numbers, codes of no label, infinite values, or
            missing values where they are refused.

    >>> data = load_dataset("banana", seed=0, num_rows=100)
    >>> read_rows(data.test.numpy(), data.columns).shape
    torch.Size([10, 2])
    """
    images = None if is_table(source) else find_images(source)
    if images is not None:
        rows = images.images.pixels.reshape(len(images.images.pixels), -1)
        if rows.shape[1] != len(columns):
            raise DataError(
                f"{images.source or 'the images'}: the fit has {len(columns)} columns, these images have {rows.shape[1]} "
                "pixels"
            )
        return torch.from_numpy(rows).double()
    reading = reading or ReadOptions()
    found = read_table(source, reading=reading, columns=columns)
    return encode_table(found.table, columns, missing=missing, absent=absent, where=found.where, tokens=reading.tokens)
