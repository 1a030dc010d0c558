"""The options that every command has that reads a table."""

from __future__ import annotations

import dataclasses
from typing import Literal

from drl_density.datasets import ReadOptions
from drl_density.density import FittedModel

__all__ = ["ReadsTable"]


@dataclasses.dataclass(kw_only=True)
class ReadsTable:
    """Options of reading a table; what is not given follows the fit, or is recognised."""

    header: Literal["auto", "first-row", "none"] | None = None
    """Whether the first row of a text file names the columns. By default this is detected."""
    missing_values: tuple[str, ...] = ()
    """Texts that mark missing values, such as -999 unknown, in addition to NA, null, ? and others. By default none."""
    decimal: Literal["auto", ".", ","] | None = None
    """Decimal mark of a text file. By default it is detected."""
    thousands: str | None = None
    """Thousands separator of a text file; '' for none. By default it is detected."""
    delimiter: str | None = None
    """Delimiter of a text file: a character, whitespace or tab. By default it is detected."""
    encoding: str | None = None
    """Encoding of a text file, such as latin-1 or utf-16. By default UTF-8, or by its byte order mark."""
    comment: str | None = None
    """Character that starts a comment line; '' for none. By default # and %."""
    index: Literal["auto", "keep", "drop"] | None = None
    """Keep a first column that is a saved index, or drop any first column. By default an index of pandas is left out."""

    def reading(self, fitted: ReadOptions | None = None) -> ReadOptions:
        """The options given, over those that the fit was read with.

        Args:
            fitted: options of the fit's own table; the defaults when not given.
        """
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(ReadOptions)}
        changed = {name: value for name, value in given.items() if value not in (None, ())}
        if changed.get("delimiter") in ("tab", "\\t"):
            changed["delimiter"] = "\t"
        return dataclasses.replace(ReadOptions() if fitted is None else fitted, **changed)

    def reading_for(self, density: FittedModel) -> ReadOptions:
        """The options given, over those with which the table of ``density`` was read."""
        return self.reading(ReadOptions.from_dict(density.provenance.loading.get("reading", {})))
