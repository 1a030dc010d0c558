"""Formats of the files of rows that can be written, and the targets that are refused."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drl_density.datasets.tables.reading import is_pipe, missing_extra
from drl_density.errors import DataError, DataWarning
from drl_density.records.literals import check_literals

STANDARD = "-"
"""Name of standard input and standard output among files."""
OUTPUTS = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Other names of standard output."""
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
"""Endings of files that can be written, in any case."""


@dataclass(frozen=True)
class TableFormat:
    """Format of a file of rows.

    Attributes:
        kind: "csv", "tsv" or "parquet".
        is_compressed: whether text is compressed by gzip.
        ending: ending of the file as it was written, such as ".CSV.gz"; empty for standard output.
    """

    kind: Literal["csv", "tsv", "parquet"]
    is_compressed: bool = False
    ending: str = ""

    def __post_init__(self) -> None:
        check_literals(self)


def table_format(target: str | Path | None) -> TableFormat:
    """The format that the ending of ``target`` means; CSV for standard output, and for pipes and devices without an ending.

    Args:
        target: path of a file; None or "-" for standard output.

    Raises:
        DataError: an ending that is not one of :data:`ENDINGS`, Parquet for a pipe, or Parquet without pyarrow.

    >>> table_format("Scores.CSV.gz")
    TableFormat(kind='csv', is_compressed=True, ending='.CSV.gz')
    >>> table_format("-").kind
    'csv'
    """
    if target is None or str(target) == STANDARD:
        return TableFormat("csv")
    name = Path(target).name
    found = [ending for ending in ENDINGS if name.lower().endswith(ending)]
    if not found and is_stream(target) and not Path(target).suffix:
        return TableFormat("csv")
    if not found:
        raise DataError(
            f"{target}: expected a file ending in {', '.join(ENDINGS)}, or {STANDARD} for standard output; "
            f"got {Path(target).suffix or 'no ending'}"
        )
    ending = max(found, key=len)
    kind = "parquet" if ending == ".parquet" else "tsv" if ending.startswith(".tsv") else "csv"
    if kind == "parquet":
        if is_stream(target):
            raise DataError(f"{target} is a pipe, and Parquet is written to files only: write CSV, or to a file")
        require_parquet(target)
    return TableFormat(kind, ending.endswith(".gz"), name[len(name) - len(ending) :])


def is_standard(target: str | Path | None) -> bool:
    """Whether ``target`` means standard output: None, "-", or a name that the system has for it.

    >>> is_standard("-"), is_standard("/dev/stdout"), is_standard("rows.csv")
    (True, True, False)
    """
    return target is None or str(target) in (STANDARD, *OUTPUTS)


def is_stream(target: str | Path | None) -> bool:
    """Whether rows go to ``target`` as they are made: standard output, a named pipe, or a device.

    No file is there that a whole new one could replace.

    Args:
        target: path of a file; None or "-" for standard output.

    >>> is_stream(None), is_stream("/dev/null"), is_stream("rows.csv")
    (True, True, False)
    """
    if target is None or is_standard(target):
        return True
    return is_pipe(Path(target))


def check_target(target: str | Path | None, *, sources: Iterable[str | Path] = ()) -> TableFormat:
    """The format of ``target``, once it is clear that it can be written and is none of the ``sources``.

    Args:
        target: path of a file; None or "-" for standard output.
        sources: files that are read while ``target`` is written.

    Raises:
        DataError: an unknown ending, a missing folder, a folder in place of the file, or a target that is a source.

    >>> import tempfile
    >>> check_target(Path(tempfile.mkdtemp()) / "rows.csv.gz").is_compressed
    True
    """
    found = table_format(target)
    if target is None or is_stream(target):
        if target is not None and str(target) != STANDARD and not found.ending:
            warnings.warn(
                f"{target} has no ending that names a format: rows are written as CSV", DataWarning, stacklevel=2
            )
        return found
    path = Path(target)
    if path.is_dir():
        raise DataError(f"cannot write {target}: it is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise DataError(f"cannot write {target}: there is no folder {path.parent}; make it first, or write elsewhere")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"cannot write {target}: no permission to write in {path.parent}")
    for source in sources:
        if str(source) != STANDARD and _is_within(path, Path(source)):
            raise DataError(f"{target} is what is read here ({source}); write to another file")
    return found


def _is_within(path: Path, source: Path) -> bool:
    """Whether ``path`` is the file ``source``, or lies in the folder ``source``."""
    if not source.exists():
        return False
    if source.is_dir():
        return path.resolve().is_relative_to(source.resolve())
    return path.exists() and path.samefile(source)


def require_parquet(target: str | Path) -> Any:
    """The module ``pyarrow.parquet``.

    Raises:
        DataError: pyarrow is missing; the message names ``target``.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise missing_extra(str(target), "writing Parquet needs pyarrow") from error
    return parquet
