"""Reads text tables: dialect and kinds of columns are decided once, numbers are parsed by pandas' C parser."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from drl_density.datasets.column import LARGEST_EXACT
from drl_density.datasets.tables.meaning import composed
from drl_density.datasets.tables.reading import Kind, ReadOptions, TableReader
from drl_density.datasets.tables.text.dialect import find_encoding, is_comment, recognise, refuse_commented_rows
from drl_density.datasets.tables.text.later import later_reading
from drl_density.datasets.tables.text.numerals import Decision, Evidence, decide, in_doubt, odd_cells, to_boolean
from drl_density.datasets.tables.text.parsing import (
    OddCells,
    as_booleans,
    as_numbers,
    as_texts,
    distinct_texts,
    line_of,
    parse_block,
)
from drl_density.datasets.tables.text.sources import BLOCK, Block, ByteSource, blocks_of, decoded, without_comments
from drl_density.errors import DataError, DataWarning

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TEXT_SUFFIXES", "TextTable"]

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data")
"""Endings of text tables, in lower case; .gz, .bz2, .xz and .zst may follow."""
NUM_LINES = 400
"""First lines by which the dialect is recognised."""


class TextTable(TableReader):
    """A text table from a path, a stream or an open file.

    Args:
        source: path, ``"-"`` for standard input, or an open file.
        reading: options of reading.
        known: kind of each column that is known. When given, the cells of other columns are texts that stay as they are,
            and the table is read in one pass; when not, it is scanned once to decide the kinds of all columns.
        labels: names of further columns whose cells are texts, whatever they look like.
        is_tabs: whether the name of the file promises tabs.

    Raises:
        DataError: an empty file, a wrong encoding, columns named twice, or a first row that may be names or data.
    """

    def __init__(
        self,
        source: Any,
        *,
        reading: ReadOptions,
        known: Mapping[str, Kind] | None = None,
        labels: Sequence[str] = (),
        is_tabs: bool = False,
    ) -> None:
        self._is_once = known is not None
        self._source = ByteSource(source, once=self._is_once)
        self.where = self._source.where
        pieces = self._source.pieces()
        first = next(pieces, b"")
        if known:
            reading = later_reading(first, reading, known, self.where)
        self._reading = reading
        self._encoding, self._mark = find_encoding(first, reading, self.where)
        text = self._text(chain([first], pieces))
        heads = [head for head in (next(text, b""), next(text, b"")) if head]
        self._begun = chain(heads, text) if self._is_once else None
        head = b"".join(heads)
        lines = head.split(b"\n", NUM_LINES)[:NUM_LINES]
        if len(lines) < NUM_LINES and (not lines[-1] or len(head) >= BLOCK):
            lines.pop()  # the end of the file, or a row that goes on in the next piece
        own = {composed(name): name for name in known or ()}
        known_names = tuple(own)
        shown = [line.decode(errors="replace") for line in lines]
        self._dialect = recognise(shown, reading, where=self.where, is_tabs=is_tabs, known=known_names)
        skipped = enumerate(shown[: self._dialect.num_skipped], 1)
        commented = {number: line for number, line in skipped if is_comment(line, self._dialect.comments)}
        inner = self._dialect.names[: self._dialect.num_cells - self._dialect.has_end]
        self._places = {own.get(name, name): place for place, name in enumerate(inner) if place != self._dialect.index}
        if known and not set(known) & set(self._places) and set(known) == {f"x{place}" for place in range(len(inner))}:
            self._places = {f"x{number}": place for number, place in enumerate(self._places.values())}
        self.names = tuple(self._places)
        self.first_row = self._dialect.num_skipped + 1
        self._known: dict[str, Kind] = dict.fromkeys(self.names, "text") if self._is_once else {}
        self._known |= {name: kind for name, kind in (known or {}).items() if name in self._places}
        self._known |= {name: "text" for name in labels if name in self._places}
        self._as_is = {*self.names} - {*own.values(), *labels} if self._is_once else set[str]()
        self._decided: dict[str, Decision] = {}
        self._noted: set[str] = set()
        self._evidence: dict[str, Evidence] = {}
        refuse_commented_rows(commented, self._dialect, reading, self.where)

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Kind of every column: number, boolean or text; found by a scan where it is not known."""
        if not self._is_once:
            self._scan()
        return {**self._known, **{name: found.kind for name, found in self._decided.items()}}

    def chunks(self, num_rows: int = 65_536, *, names: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yields the table in frames of ``num_rows`` rows, the last one shorter; a table without rows gives one empty frame.

        Args:
            num_rows: rows of a frame.
            names: columns to read, in this order; all when not given.

        Raises:
            DataError: a cell or row that cannot be read; the message names file, column and row.
        """
        import pandas as pd

        wanted = list(self.names if names is None else names)
        if not self._is_once:
            self._scan()
            self._settle(wanted)
        held: list[pd.DataFrame] = []
        count = start = 0
        for block in self._blocks():
            parsed = self._parsed(block, wanted)
            if self._is_once:
                self._decide(parsed, wanted, block)
            frame = self._frame(parsed, wanted, start + count, block)
            held.append(frame)
            count += len(frame)
            if count >= num_rows:
                joined = pd.concat(held)
                for begin in range(0, count - num_rows + 1, num_rows):
                    yield joined.iloc[begin : begin + num_rows]
                done = count - count % num_rows
                held, start, count = ([joined.iloc[done:]] if count % num_rows else []), start + done, count % num_rows
        if count or not start:
            yield pd.concat(held) if held else self._nothing(wanted)

    def read(self, *, names: Sequence[str] | None = None) -> pd.DataFrame:
        """The whole table, parsed once; only columns that mix numbers and texts are parsed twice.

        Args:
            names: columns to read, in this order; all when not given.

        Raises:
            DataError: a cell or row that cannot be read; the message names file, column and row.
        """
        import pandas as pd

        if self._is_once or self._decided:
            return pd.concat(list(self.chunks(1 << 20, names=names)))
        wanted = list(self.names if names is None else names)
        parsed: list[pd.DataFrame] = []
        self._scan(parsed)
        self._settle(wanted)
        again = [self._places[name] for name in wanted if self._is_lost(name)]
        if again:
            for number, block in enumerate(self._blocks()):
                texts = parse_block(block, self._dialect, self._reading, where=self.where, texts=again, only=again)
                parsed[number] = parsed[number].drop(columns=again).join(texts[again])
        made, start = [], 0
        for frame in parsed:
            made.append(self._frame(frame, wanted, start))
            start += len(frame)
        return pd.concat(made) if made else self._nothing(wanted)

    def _text(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        return decoded(pieces, self._encoding, self.where, num_skipped=self._mark)

    def _blocks(self) -> Iterator[Block]:
        """Blocks of rows without comments."""
        if self._is_once:
            if self._begun is None:
                raise DataError(f"{self.where} was opened for reading once")
            text, self._begun = self._begun, None
        else:
            text = self._text(self._source.pieces())
        for block in blocks_of(text, self._dialect.num_skipped, self.where):
            self._source.refuse_change()
            bare, comments = without_comments(block, self._dialect.comments)
            if comments:
                refuse_commented_rows(comments, self._dialect, self._reading, self.where)
                self._note(
                    f"lines that begin with {' or '.join(self._dialect.comments)} are left out as comments (--comment '')"
                )
            yield bare

    def _note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            warnings.warn(f"{self.where}: {text}", DataWarning, stacklevel=4)

    def _parsed(self, block: Block, wanted: Sequence[str]) -> pd.DataFrame:
        """The cells of ``block`` as the C parser reads them; columns of texts stay texts."""
        texts = [self._places[name] for name in wanted if self._stays_text(name)]
        as_is = [self._places[name] for name in self._as_is]
        return parse_block(block, self._dialect, self._reading, where=self.where, texts=texts, as_is=as_is)

    def _stays_text(self, name: str) -> bool:
        decision = self._decided.get(name)
        if decision is None:
            return self._known.get(name) == "text"
        return decision.kind == "text" or decision.decimal not in (None, self._dialect.decimal)

    def _is_lost(self, name: str) -> bool:
        """Whether the scan has parsed to numbers what is a text, or has another decimal sign, or is too large."""
        found, decision = self._evidence[name], self._decided[name]
        if decision.kind == "number":
            other = decision.decimal not in (None, self._dialect.decimal)
            return found.is_large or (other and found.has_fractions)
        return decision.kind == "text" and found.is_lossy

    def _scan(self, parsed: list[pd.DataFrame] | None = None) -> None:
        """Decides the kinds of all columns by one pass; ``parsed`` takes the blocks that were parsed for it."""
        if self._decided:
            return
        self._evidence = {name: Evidence() for name in self.names}
        count = 0
        for block in self._blocks():
            frame = self._parsed(block, self.names)
            self._count(frame, count, self._evidence)
            count += len(frame)
            if parsed is not None:
                parsed.append(frame)
        self.num_rows = count
        doubtful = in_doubt(self._evidence, self._dialect.decimal)
        if doubtful:
            count = 0
            self._forget(self._evidence, doubtful)
            for block in self._blocks():
                count += self._count_texts(block, doubtful, count, self._evidence)
        self._decided = decide(self._evidence, self._reading, self._dialect.delimiter, self._known)

    def _count(self, frame: pd.DataFrame, start: int, evidence: Mapping[str, Evidence]) -> None:
        """Adds the cells of ``frame``, whose first row is row ``start`` of the table, to ``evidence``."""
        import pandas as pd

        for name, found in evidence.items():
            if self._known.get(name) == "text":
                continue
            column = pd.Series(frame[self._places[name]])
            if column.dtype.kind in "iufb":
                found.add_numbers(np.asarray(column), self._dialect.decimal, self._reading.thousands)
                continue
            codes, texts = distinct_texts(column)
            seen = codes >= 0
            counts = np.bincount(codes[seen], minlength=len(texts))
            rows = np.full(len(texts), len(frame))
            np.minimum.at(rows, codes[seen], np.flatnonzero(seen))
            kept = [place for place, text in enumerate(texts) if text.lower() not in self._reading.tokens]
            found.add_texts([texts[place] for place in kept], counts[kept], start + rows[kept], self._reading)

    def _forget(self, evidence: dict[str, Evidence], names: Sequence[str]) -> None:
        for name in names:
            old = evidence[name]
            evidence[name] = Evidence(is_lossy=True, has_fractions=old.has_fractions, is_large=old.is_large)

    def _count_texts(self, block: Block, names: Sequence[str], start: int, evidence: Mapping[str, Evidence]) -> int:
        """Adds the texts of ``names`` in ``block`` to their evidence; gives its number of rows."""
        places = [self._places[name] for name in names]
        frame = parse_block(block, self._dialect, self._reading, where=self.where, texts=places, only=places)
        self._count(frame, start, {name: evidence[name] for name in names})
        return len(frame)

    def _settle(self, wanted: Sequence[str]) -> None:
        """Notes the guesses about ``wanted`` columns.

        Raises:
            DataError: a column that is neither numbers nor labels.
        """
        self._tell(wanted, self._decided, self._evidence, self._line)

    def _tell(
        self,
        names: Sequence[str],
        decided: Mapping[str, Decision],
        evidence: Mapping[str, Evidence],
        line_at: Callable[[int], int],
    ) -> None:
        notes: dict[str, list[str]] = {}
        for name in names:
            decision = decided[name]
            if decision.num_odd:
                found = evidence[name]
                other = "," if decision.decimal == "." else "."
                odd = self._odd(found.odd) or found.signed[other]
                if not odd:  # numbers with the other sign, which the parser took whole in an earlier block
                    raise DataError(
                        f"{self.where}: column {name!r} has numbers with decimal points and with decimal commas; write all "
                        "with one sign, or give decimal='.' or ',' (--decimal) to have the other cells named"
                    )
                line = line_at(min(odd.values()))
                words = odd_cells(name, decision.num_odd, found.num_cells, line, list(odd), is_fitted=self._is_once)
                raise DataError(f"{self.where}: {words}")
            if decision.error:
                raise DataError(f"{self.where}: {decision.error}")
            if decision.note:
                notes.setdefault(decision.note, []).append(name)
        for note, named in notes.items():
            columns = ", ".join(map(repr, named[:8])) + (", ..." if len(named) > 8 else "")
            self._note(f"{'columns' if len(named) > 1 else 'column'} {columns}: read as {note}")

    def _line(self, row: int) -> int:
        """The line in the file of row ``row`` of the table, from 0."""
        for block in self._blocks():
            count = len(parse_block(block, self._dialect, self._reading, where=self.where))
            if row < count:
                return line_of(block, row, self._dialect)
            row -= count
        return self.first_row + row

    def _frame(
        self, parsed: pd.DataFrame, wanted: Sequence[str], start: int, block: Block | None = None
    ) -> pd.DataFrame:
        """The columns ``wanted`` of rows that the C parser has read; ``block`` holds them where this is the only pass."""
        import pandas as pd

        columns = {name: self._converted(name, pd.Series(parsed[self._places[name]]), block) for name in wanted}
        if self._dialect.has_end and bool(parsed[self._dialect.num_cells - 1].notna().any()):
            raise DataError(
                f"{self.where}: the last column has no name, and no cells but some below row {self.first_row}"
            )
        place = self._dialect.index
        index = pd.RangeIndex(start, start + len(parsed)) if place is None else pd.Index(parsed[place].to_numpy())
        frame = pd.DataFrame({name: column.array for name, column in columns.items()}, index=index)
        frame.index.name = None if place is None else (self._dialect.names[place] or None)
        return frame

    def _nothing(self, wanted: Sequence[str]) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame({name: pd.Series([], dtype="float64") for name in wanted})

    def _converted(self, name: str, column: pd.Series, block: Block | None) -> pd.Series:
        import pandas as pd

        if name in self._as_is:
            return column
        decision = self._decided.get(name, Decision(self._known.get(name, "number")))
        decimal = decision.decimal or self._dialect.decimal
        try:
            if decision.kind == "text":
                return as_texts(column, self._reading)
            if column.dtype.kind not in "iuf":
                convert = decision.kind == "boolean"
                return as_booleans(column, self._reading) if convert else as_numbers(column, decimal, self._reading)
            if block is not None and column.dtype.kind == "f" and bool((column.abs() > LARGEST_EXACT).any()):
                place = self._places[name]
                texts = parse_block(block, self._dialect, self._reading, where=self.where, texts=[place], only=[place])
                return as_numbers(pd.Series(texts[place]), decimal, self._reading)
            return column
        except OddCells as odd:
            rows = self._odd(odd.rows)
            row = min(rows.values())
            line = self.first_row + row if block is None else line_of(block, row, self._dialect)
            num_cells = int(column.notna().sum())
            words = odd_cells(name, odd.count, num_cells, line, list(rows), is_fitted=self._is_once)
            raise DataError(f"{self.where}: {words}") from odd

    def _odd(self, rows: Mapping[str, int]) -> Mapping[str, int]:
        """The texts that a message names, with their rows: not true and false where a fit has decided for numbers."""
        others = {text: row for text, row in rows.items() if to_boolean(text) is None}
        return others if self._is_once and others else rows

    def _decide(self, parsed: pd.DataFrame, wanted: Sequence[str], block: Block) -> None:
        """Decides the columns of a single pass whose decimal sign no block before has shown."""
        open_ones = [name for name in wanted if name not in self._decided and self._known[name] != "text"]
        evidence = {name: Evidence() for name in open_ones}
        self._count(parsed, 0, evidence)
        doubtful = in_doubt(evidence, self._dialect.decimal)
        if doubtful:
            self._forget(evidence, doubtful)
            self._count_texts(block, doubtful, 0, evidence)
        settled = {found.decimal for found in self._decided.values() if found.decimal}
        decided = decide(evidence, self._reading, self._dialect.delimiter, self._known, settled)
        self._tell(open_ones, decided, evidence, lambda row: line_of(block, row, self._dialect))
        for name, decision in decided.items():
            if decision.decimal is not None or decision.kind != "number":
                self._decided[name] = decision
            if decision.decimal not in (None, self._dialect.decimal) and evidence[name].has_fractions:
                place = self._places[name]
                parsed[place] = parse_block(
                    block, self._dialect, self._reading, where=self.where, texts=[place], only=[place]
                )[place]
