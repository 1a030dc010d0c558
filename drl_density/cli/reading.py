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
    """Whether the first row of a text file names the columns; recognised when not given."""
    missing_values: tuple[str, ...] = ()
    """Further texts that mark a missing value, such as -999 unknown; NA, N/A, NaN, null, None, ? and others always do."""
    decimal: Literal["auto", ".", ","] | None = None
    """Sign between whole and fraction in a text file; recognised when not given."""
    thousands: str | None = None
    """Sign between groups of three digits; recognised when not given, and '' allows none."""
    delimiter: str | None = None
    """Sign between the cells of a text file, or whitespace, or tab; recognised when not given."""
    encoding: str | None = None
    """Encoding of a text file, such as latin-1 or utf-16; UTF-8 or its byte order mark when not given."""
    comment: str | None = None
    """Sign that begins a line of comment; # and % when not given, and '' takes none."""
    index: Literal["auto", "keep", "drop"] | None = None
    """What to do with a saved index, such as the unnamed first column of pandas: left out with a note when not given. drop
    leaves out the first column whatever it holds."""

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
