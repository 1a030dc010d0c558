"""First cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drl_density.datasets.tables.reading import ReadOptions, TableReader

if TYPE_CHECKING:
    import pandas as pd

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data")
"""Endings of text tables, in lower case."""


class TextTable(TableReader):
    """A text table (pandas' reader, until the stated rules land)."""

    def __init__(self, path: Path, *, reading: ReadOptions, where: str = "") -> None:
        import pandas as pd

        self.where, self._path = where or str(path), path
        self._options = {"sep": "\t" if path.suffix == ".tsv" else ",", "na_values": sorted(reading.tokens)}
        self.names = tuple(map(str, pd.read_csv(path, nrows=0, **self._options).columns))
        self.first_row = 2

    def chunks(self, num_rows: int = 65_536, *, names: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Frames."""
        import pandas as pd

        for frame in pd.read_csv(self._path, chunksize=num_rows, **self._options):
            yield frame[list(self.names if names is None else names)]
