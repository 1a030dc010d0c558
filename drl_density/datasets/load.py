"""``load_dataset``: one door for names, files and arrays."""

from __future__ import annotations

import dataclasses
import difflib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drl_density.datasets.columns import notice_columns
from drl_density.datasets.dataset import Column, Dataset
from drl_density.datasets.files import RawTable, from_array, from_frame, read_file
from drl_density.datasets.load_images import find_images, split_images
from drl_density.datasets.splits import Split, row_groups, split_rows
from drl_density.datasets.toys import TOYS
from drl_density.errors import DataError, DataWarning

BUNDLED = ("digits", "wine", "breast_cancer", "diabetes")
DECLARED = {"digits": {"kind": "integer", "width": 1.0, "lower": -0.5, "upper": 16.5}}


def load_dataset(
    source: Any,
    *,
    seed: int | None = None,
    split: Split | None = None,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    drop: Sequence[str] = (),
    missing: str = "refuse",
    num_rows: int = 10_000,
    image_size: int | None = None,
) -> Dataset:
    """Load, look at, and split a data set.

    Args:
        source: a bundled real set (digits, wine, breast_cancer, diabetes), a toy of known density (eight_gaussians,
            checkerboard, two_rings, banana), a file (.csv, .tsv, .parquet, .npy, .npz, .nc; ``file.npz:name`` picks an
            array), or an array, tensor or DataFrame; and 8-bit images: a folder of image files (one folder per class, or
            ``train`` and ``test`` folders, as you like), idx files, an .npz with x_train, a uint8 array, a torchvision
            or Hugging Face data set that is already in memory or on disk. Nothing is ever downloaded.
        seed: of the split (short for ``split=Split(seed=...)``).
        split: shares, groups, time, weights.
        columns: what to believe of a column in place of what is noticed, e.g. ``{"age": {"lower": 0.0}}``.
        drop: columns to leave out.
        missing: of rows with holes: "refuse" them, "drop" them, or "draw" their missing cells while fitting.
        num_rows: rows drawn from a toy.
        image_size: pixels a side to which image files are scaled, after cutting out their largest centred square.

    Raises:
        DataError: naming file, column and row.

    >>> data = load_dataset("wine", seed=0)
    >>> data.num_columns, data.columns[0].kind
    (13, 'continuous')
    """
    split = Split() if split is None else split
    if seed is not None:
        split = dataclasses.replace(split, seed=seed)
    loading = {
        "split": dataclasses.asdict(split),
        "columns": dict(columns or {}),
        "drop": list(drop),
        "missing": missing,
    }
    if isinstance(source, str) and source in TOYS:
        return _toy(source, split, {**loading, "num_rows": num_rows})
    images = find_images(source, image_size)
    if images is not None:
        if columns or drop:
            raise DataError("images have no columns to declare or drop; every pixel is an 8-bit value 0..255")
        return dataclasses.replace(split_images(*images, split), loading={**loading, "image_size": image_size})
    if image_size is not None:
        raise DataError("image_size scales image files; this source is a table or an array")
    name, where, table = _read(source)
    table = _without(table, drop, where)
    table, extra = _set_aside(table, split, where)
    table.refuse_free_text(where)
    table, kept = _without_holes(table, missing, where)
    extra = {role: values[kept] for role, values in extra.items()}
    declared = DECLARED.get(name, {}) if where in BUNDLED else {}
    columns = {name: dict(declared) for name in table.names if declared} | dict(columns or {})
    found = notice_columns(table.values, table.names, categories=table.categories, overrides=columns)
    return dataclasses.replace(_divide(name, where, table, found, split, extra), loading=loading)


def load_again(source: str, loading: Mapping[str, Any]) -> Dataset:
    """The same rows in the same split as a :class:`Dataset` with this ``source`` and ``loading``.

    Raises:
        DataError: for rows that were an array in memory, or a source that is gone.

    >>> data = load_dataset("banana", seed=0, num_rows=100)
    >>> bool((load_again(data.source, data.loading).test == data.test).all())
    True
    """
    if not source:
        raise DataError("the rows of this fit were an array in memory and cannot be loaded again; give a table")
    return load_dataset(source, **{**loading, "split": Split(**loading["split"])})


def _toy(name: str, split: Split, loading: dict[str, Any]) -> Dataset:
    toy, num_rows = TOYS[name](), loading["num_rows"]
    values = toy.sample(num_rows, torch.Generator().manual_seed(split.seed))
    train, validation, test = split_rows(np.arange(num_rows), split)
    parts = [values[torch.as_tensor(index)] for index in (train, validation, test)]
    columns = (Column("x0"), Column("x1"))
    return Dataset(name, *parts, columns, (2,), source=name, loading=loading, known_log_density=toy.log_density)


def _read(source: Any) -> tuple[str, str, RawTable]:
    """(short name, source as it can be loaded again, table)."""
    if isinstance(source, str) and source in BUNDLED:
        return source, source, _bundled(source)
    if isinstance(source, str | os.PathLike):
        return _read_path(str(source))
    if isinstance(source, Tensor):
        return "array", "", from_array(source.detach().cpu().numpy(), where="the tensor")
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        return "table", "", from_frame(source)
    return "array", "", from_array(source)


def _read_path(text: str) -> tuple[str, str, RawTable]:
    path, key = Path(text), None
    if not path.exists() and ".npz:" in text:
        stem, key = text.rsplit(":", 1)
        path = Path(stem)
    if path.exists():
        return path.stem if key is None else key, text, read_file(path, key)
    known = [*BUNDLED, *TOYS]
    if path.suffix or os.sep in text:
        raise DataError(f"there is no file {text!r}")
    close = difflib.get_close_matches(text, known)
    hint = f"did you mean {', '.join(close)}?" if close else f"known sets are {', '.join(known)}; or give a file"
    raise DataError(f"there is no data set {text!r}: {hint}")


def _bundled(name: str) -> RawTable:
    from sklearn import datasets

    loaders: dict[str, Callable[[], Any]] = {
        "digits": datasets.load_digits,
        "wine": datasets.load_wine,
        "breast_cancer": datasets.load_breast_cancer,
        "diabetes": lambda: datasets.load_diabetes(scaled=False),
    }
    bunch = loaders[name]()
    return from_array(bunch.data, [str(n) for n in bunch.feature_names])


def _without(table: RawTable, drop: Sequence[str], where: str) -> RawTable:
    unknown = [name for name in drop if name not in table.names]
    if unknown:
        raise DataError(
            f"{where or 'the table'}: cannot drop {', '.join(unknown)}; columns are {', '.join(table.names)}"
        )
    kept = [name for name in table.names if name not in drop]
    if not kept:
        raise DataError("every column was dropped; keep at least one")
    return table if len(kept) == len(table.names) else table.select(kept)


def _set_aside(table: RawTable, split: Split, where: str) -> tuple[RawTable, dict[str, np.ndarray]]:
    """Take group, time and weight columns out of the table."""
    roles = {role: getattr(split, role) for role in ("group", "time", "weights") if getattr(split, role) is not None}
    missing = [name for name in roles.values() if name not in table.names]
    if missing:
        raise DataError(f"{where or 'the table'}: there is no column {', '.join(missing)} to split or weigh by")
    extra = {role: _aside(table, name, role, where) for role, name in roles.items()}
    return _without(table, list(roles.values()), where), extra


def _aside(table: RawTable, name: str, role: str, where: str) -> np.ndarray:
    """One number per row from the column that groups, orders or weighs the rows; text groups, and dates order.

    Raises:
        DataError: holes, text that is no date, or weights that are not positive numbers.
    """
    values, cells = table.values[:, table.names.index(name)], table.texts.get(name)
    if cells is not None and role == "group":
        is_hole = np.array([str(cell).strip() == "" for cell in cells])
        values = np.where(is_hole, np.nan, np.unique([str(cell) for cell in cells], return_inverse=True)[1])
    elif cells is not None and role == "time":
        try:
            dates = np.asarray([str(cell).strip() or "NaT" for cell in cells], dtype="datetime64[ns]")
        except ValueError as error:
            raise DataError(
                f"{where or 'the table'}: column {name!r} is to order the rows by time, but holds text that is no ISO date "
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


def _without_holes(table: RawTable, missing: str, where: str) -> tuple[RawTable, np.ndarray]:
    if missing not in ("refuse", "drop", "draw"):
        raise DataError(f'missing must be "refuse", "drop" or "draw", got {missing!r}')
    is_bad = ~np.isfinite(table.values)
    kept = ~is_bad.any(1)
    if kept.all():
        return table, kept
    row, column = np.argwhere(is_bad)[0]
    if missing == "refuse":
        raise DataError(
            f"{where or 'the table'}: {int(is_bad.sum())} cells in {int((~kept).sum())} rows are empty, NaN or infinite, "
            f"the first in column {table.names[column]!r}, row {table.first_row + row}. Choose: drop those rows with "
            'missing="drop" (--missing drop), or have the missing cells drawn from the model while it is fitted with '
            'missing="draw" (--missing draw), which assumes that cells are missing for reasons seen in the others'
        )
    if missing == "draw":
        return _with_holes(table, where)
    if not kept.any():
        raise DataError(f"{where or 'the table'}: every row has a hole; drop the columns that cause it")
    warnings.warn(
        f"dropped {int((~kept).sum())} of {len(kept)} rows with holes; the density is that of complete rows",
        DataWarning,
        stacklevel=4,
    )
    return dataclasses.replace(table, values=table.values[kept]), kept


def _with_holes(table: RawTable, where: str) -> tuple[RawTable, np.ndarray]:
    """The table with its holes as NaN, without rows that hold nothing."""
    if np.isinf(table.values).any():
        row, column = np.argwhere(np.isinf(table.values))[0]
        raise DataError(
            f"{where or 'the table'}: column {table.names[column]!r}, row {table.first_row + row} is infinite, which is "
            "no hole; mark holes with NaN or an empty cell"
        )
    is_hole = np.isnan(table.values)
    empty = [name for name, column in zip(table.names, is_hole.T, strict=True) if column.all()]
    if empty:
        raise DataError(f"{where or 'the table'}: columns without a single value: {', '.join(empty)}; drop them")
    kept = ~is_hole.all(1)
    if not kept.all():
        warnings.warn(
            f"left out {int((~kept).sum())} rows without a single value, which say nothing", DataWarning, stacklevel=5
        )
    texts = {column: cells[kept] for column, cells in table.texts.items()}
    return dataclasses.replace(table, values=table.values[kept], texts=texts), kept


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
                f"column {column.name!r} holds labels; they are coded 0, 1, ... in alphabetical order, which the "
                "density treats as an order",
                DataWarning,
                stacklevel=4,
            )
    groups = extra["group"] if "group" in extra else row_groups(np.where(np.isnan(values), np.inf, values))
    indices = split_rows(groups, split, times=extra.get("time"))
    parts = [torch.as_tensor(values[index]) for index in indices]
    weights = [torch.as_tensor(extra["weights"][index]) if "weights" in extra else None for index in indices]
    return Dataset(name, *parts, columns, table.event_shape, weights[0], where, validation_weights=weights[1])


def read_rows(source: Any, columns: Sequence[Column], *, missing: str = "refuse", absent: Sequence[str] = ()) -> Tensor:
    """Rows of a new table in the order and coding of known columns, ``(rows, d)``, float64; holes are refused, or kept
    as NaN with ``missing="keep"``. Columns named in ``absent`` need not be there, and are NaN then.

    Args:
        source: a file, an array, a tensor or a data frame.
        columns: those of the fit.
        missing: "refuse" or "keep" holes.
        absent: names of columns that need not be there.

    Raises:
        DataError: missing columns, unknown labels, or cells that are empty, NaN or infinite.

    >>> data = load_dataset("banana", seed=0, num_rows=100)
    >>> read_rows(data.test.numpy(), data.columns).shape
    torch.Size([10, 2])
    """
    images = find_images(source)
    if images is not None:
        rows = images[2].pixels.reshape(len(images[2].pixels), -1)
        if rows.shape[1] != len(columns):
            raise DataError(
                f"{images[1] or 'the images'}: the fit has {len(columns)} columns, these images have {rows.shape[1]} pixels"
            )
        return torch.from_numpy(rows).double()
    name, where, table = _read(source)
    wanted = [column.name for column in columns]
    lacking = tuple(column for column in absent if column in wanted and column not in table.names)
    if lacking:
        holes = np.full((len(table.values), len(lacking)), np.nan)
        names = (*table.names, *lacking)
        values = np.hstack([table.values, holes])
        table = dataclasses.replace(table, values=values, names=names, event_shape=(len(names),))
    if set(wanted) - set(table.names):
        if set(wanted) == {f"x{i}" for i in range(len(wanted))} and table.values.shape[1] == len(wanted):
            table = dataclasses.replace(table, names=tuple(wanted))
        else:
            absent = [column for column in wanted if column not in table.names]
            raise DataError(
                f"{where or name}: the fit has columns that are not here: {', '.join(absent)}; "
                f"here are {', '.join(table.names)}"
            )
    table = table.select(wanted)
    table.refuse_free_text(where, advice="the fit knows this column as numbers: mend the cell")
    values = table.values.copy()
    for index, column in enumerate(columns):
        labels = table.categories.get(column.name)
        if labels is not None:
            values[:, index] = _recode(values[:, index], labels, column, where or name)
    if missing == "keep":
        return torch.as_tensor(np.where(np.isfinite(values), values, np.nan))
    is_bad = ~np.isfinite(values)
    if is_bad.any():
        row, column = np.argwhere(is_bad)[0]
        raise DataError(
            f"{where or name}: {int(is_bad.sum())} cells in {int(is_bad.any(1).sum())} rows are empty, NaN or infinite, the "
            f"first in column {wanted[column]!r}, row {table.first_row + row}. Complete rows are needed here: leave those "
            "rows out, or fill them first with impute"
        )
    return torch.as_tensor(values)


def _recode(codes: np.ndarray, labels: tuple[str, ...], column: Column, where: str) -> np.ndarray:
    known = {label: float(code) for code, label in enumerate(column.categories or ())}
    unknown = [label for label in labels if label not in known]
    if unknown:
        expected = ", ".join(known) if known else "numbers"
        raise DataError(f"{where}: column {column.name!r} holds {', '.join(unknown)}; the fit knows {expected}")
    table = np.array([known[label] for label in labels])
    is_hole = np.isnan(codes)
    return np.where(is_hole, np.nan, table[np.where(is_hole, 0, codes).astype(int)])
