"""Recognises how a text table is written: its encoding, separators, comments, header and saved index."""

from __future__ import annotations

import codecs
import csv
import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from drl_density.datasets.tables.meaning import composed
from drl_density.datasets.tables.reading import ReadOptions
from drl_density.datasets.tables.text.header import has_header
from drl_density.datasets.tables.text.numerals import is_numeral, to_boolean, to_number
from drl_density.errors import DataError, DataWarning

__all__ = ["Dialect", "cells_of", "find_encoding", "is_comment", "recognise", "refuse_commented_rows"]

DELIMITERS = ("\t", ";", ",", "|", "whitespace")
"""Signs between cells, in the order in which they are preferred where several fit."""
COMMENTS = "#%"
"""Signs that begin a line of comment."""
NUM_SEEN = 200
"""Rows that are looked at."""
NUM_COMPARED = 50
"""Rows in which signs between cells are compared."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Attributes:
        delimiter: sign between cells, or "whitespace".
        names: names of all columns in the file, a saved index included.
        index: number of the column that is a saved index, or None.
        has_end: whether a sign follows the last cell of each row, so that the last column has neither name nor cells.
        num_skipped: lines before the first row of data.
        comments: signs that begin a line of comment.
        decimal: decimal sign of most numbers.
    """

    delimiter: str
    names: tuple[str, ...]
    index: int | None
    num_skipped: int
    comments: str
    decimal: str
    has_end: bool

    @property
    def num_cells(self) -> int:
        """Cells of a row."""
        return len(self.names)


def find_encoding(head: bytes, reading: ReadOptions, where: str) -> tuple[str, int]:
    """The encoding of a text file and the length of its byte order mark.

    Args:
        head: the first bytes of the file.
        reading: an encoding that is given.
        where: name of the file for messages.

    Raises:
        DataError: zero bytes, which no text in UTF-8 has.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            given = "" if reading.encoding == "auto" else codecs.lookup(reading.encoding).name.removesuffix("-sig")
            if not given or name.startswith(given):
                return name, len(mark)
    if reading.encoding == "auto" and b"\0" in head:
        raise DataError(
            f"{where}: has zero bytes, so it is no text in UTF-8; if it is text in another encoding, give it with "
            "encoding='utf-16-le' (--encoding utf-16-le) or the like"
        )
    return ("utf-8" if reading.encoding == "auto" else reading.encoding), 0


def cells_of(lines: Sequence[str], delimiter: str) -> list[tuple[int, list[str]]]:
    """Rows of ``lines``: the number of the last line of each, from 1, and its cells without the spaces around them.

    >>> cells_of(["a; 'b'", '"1;2"; 3'], ";")
    [(1, ['a', "'b'"]), (2, ['1;2', '3'])]
    """
    if delimiter == "whitespace":
        lines = [re.sub(r"[ \t]+", " ", line.strip()) for line in lines]
    reader = csv.reader(
        (f"{line}\n" for line in lines),
        delimiter=" " if delimiter == "whitespace" else delimiter,
        skipinitialspace=True,
    )
    rows = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
    return [(line, row) for line, row in rows if len(row) > 1 or lines[line - 1].strip()]


def recognise(
    lines: Sequence[str], reading: ReadOptions, *, where: str, is_tabs: bool = False, known: Collection[str] = ()
) -> Dialect:
    """Recognises how the table is written whose first lines are given; a guess that may be wrong becomes a note.

    Args:
        lines: the first lines of the file, whole ones.
        reading: what is given by the user.
        where: name of the file for messages.
        is_tabs: whether the name of the file promises tabs.
        known: names of columns that the table should have.

    Raises:
        DataError: an empty file, columns named twice, or a first row that may be names or data.
    """
    said = re.fullmatch(r'"?sep=(.)"?\s*', lines[0]) if lines else None  # the first line of Excel's own text files
    num_comments, comment = _preamble(lines, reading, num_skipped=1 if said else 0)
    comments = COMMENTS if reading.comment == "auto" else reading.comment
    body = list(lines[num_comments:])
    if not body and comments and reading.comment == "auto" and any(map(str.strip, lines)):
        return recognise(lines, replace(reading, comment=""), where=where, is_tabs=is_tabs, known=known)
    if not body:
        raise DataError(f"{where}: the file is empty")
    plain = _without_comments(body, comments)
    kept = [line for line in plain if line is not None]
    if comments and len(kept) == 1 and len(body) > 2 and reading.comment == "auto":
        kept, plain, comments = body, body, ""  # every row below the header begins with the sign
    delimiter = reading.delimiter
    if delimiter == "auto":
        delimiter = said[1] if said else _delimiter(kept[:NUM_COMPARED], is_tabs=is_tabs, known=known)
    rows = cells_of([line or "" for line in plain], delimiter)[: NUM_SEEN + 1]
    first_line, first = rows[0]
    cells = [row for _, row in rows]
    width = Counter(map(len, cells[1:] or cells)).most_common(1)[0][0]
    is_short = len(first) == width - 1 and len(cells) > 1 and reading.header != "none"
    if is_short:
        first = cells[0] = _completed(first, cells[1:], delimiter, reading, where)
    named = _commented_names(comment, delimiter, width, reading)
    is_header = _is_named(first, known) or _is_plain_header(first, cells[1:], is_short=is_short)
    if named and not is_header:
        return _finish(named, cells, delimiter, num_comments, comments, reading, where)
    if not has_header(cells, reading, where=where, known=known):
        names = [f"x{number}" for number in range(len(first))]
        return _finish(names, cells, delimiter, num_comments, comments, reading, where)
    return _finish(first, cells[1:], delimiter, num_comments + first_line, comments, reading, where)


def _completed(
    first: list[str], body: Sequence[Sequence[str]], delimiter: str, reading: ReadOptions, where: str
) -> list[str]:
    """A first row of one cell less than the rows below: they end with a sign, or R has left out the name of the row names.

    Raises:
        DataError: rows whose first cells are no names of rows, as where a decimal comma has parted one number into two.
    """
    whole = [row for row in body if len(row) == len(first) + 1]
    if not any(row[-1] for row in whole):
        return [*first, ""]
    named = [row[0] for row in whole]
    is_named = len(set(named)) == len(named)
    if is_named and delimiter == "," and all(re.fullmatch(r"[+-]?\d+", cell) for row in whole for cell in row[:2]):
        numbers = [int(cell) for cell in named]
        is_named = len(numbers) > 1 and numbers[0] >= 0 and numbers == sorted(numbers)
    if not is_named and reading.index != "drop":
        shown = ", ".join(first[:6]) + (", ..." if len(first) > 6 else "")
        raise DataError(
            f"{where}: the first row names {len(first)} columns ({shown}), and the rows below have {len(first) + 1} cells, "
            f"which are {' '.join(map(repr, whole[0][:6]))} in the first of them. If commas are decimal signs, part the "
            "cells by another sign, or write one column with delimiter=';' and decimal=',' (--delimiter ';' --decimal ,); "
            "if the first column has no name, give it one, or leave it out with index='drop' (--index drop)"
        )
    return ["", *first]


def _finish(
    names: list[str],
    cells: list[list[str]],
    delimiter: str,
    num_skipped: int,
    comments: str,
    reading: ReadOptions,
    where: str,
) -> Dialect:
    names = [composed(name) for name in names]
    columns = [[row[number] for row in cells if number < len(row)] for number in range(len(names))]
    index = _saved_index(names, columns, reading, where)
    has_end = len(names) > 1 and (names[-1] == "" or names[-1] == f"x{len(names) - 1}") and not any(columns[-1])
    named = []
    for number, name in enumerate(names):
        if not name and number != index and not (has_end and number == len(names) - 1):
            name = f"x{number}"
            warnings.warn(f"{where}: column {number + 1} has no name; it is called {name}", DataWarning, stacklevel=6)
        named.append(name)
    shown = [name for number, name in enumerate(named[: len(named) - has_end]) if number != index]
    repeated = sorted({name for name in shown if shown.count(name) > 1})
    if repeated:
        raise DataError(
            f"{where}: columns named twice: {', '.join(repeated)}; give each its own name, or read the first row "
            "as data with header='none' (--header none)"
        )
    return Dialect(delimiter, tuple(named), index, num_skipped, comments, _decimal(cells, reading), has_end)


def _decimal(cells: Sequence[Sequence[str]], reading: ReadOptions) -> str:
    if reading.decimal_sign != "auto":
        return reading.decimal_sign
    values = [(to_number(cell), to_number(cell, ",")) for row in cells for cell in row]
    commas = any(point is None and comma is not None for point, comma in values)
    return "," if commas and all(comma is not None or point is None for point, comma in values) else "."


def _preamble(lines: Sequence[str], reading: ReadOptions, num_skipped: int) -> tuple[int, str]:
    """(number of blank and comment lines at the top, the last comment without its sign)."""
    signs = COMMENTS if reading.comment == "auto" else reading.comment
    number, comment = num_skipped, ""
    for line in lines[num_skipped:]:
        if line.strip() and not is_comment(line.lstrip(), signs):
            break
        comment = line.strip()[1:].strip() if line.strip() else comment
        number += 1
    return number, comment


def _commented_names(comment: str, delimiter: str, width: int, reading: ReadOptions) -> list[str]:
    """Names of the columns in the last comment before the data, as ``numpy.savetxt`` writes them."""
    if not comment or reading.header != "auto":
        return []
    names = cells_of([comment], delimiter)[0][1]
    is_usable = len(names) == width > 1 and len(set(names)) == width and all(names)
    return names if is_usable and not any(is_numeral(name) for name in names) else []


def _is_plain_header(first: Sequence[str], body: Sequence[Sequence[str]], *, is_short: bool) -> bool:
    """Whether a first row of texts names the columns, so that a comment above it does not.

    Args:
        first: the first row; with a blank cell in the place of a name that R or a sign at the end of lines left out.
        body: rows below it.
        is_short: whether the first row has a cell less than the rows below, for which it was given a blank one.
    """
    rows = [row for row in body if len(row) == len(first)]
    is_index = is_short or [row[0] for row in rows] == [str(number) for number in range(len(rows))]
    places = range(
        int(not first[0] and is_index), len(first) - int(not first[-1] and not any(row[-1] for row in rows))
    )
    first, columns = [first[place] for place in places], [[row[place] for row in rows] for place in places]
    if not rows or not first or not all(first) or any(is_numeral(cell) or to_boolean(cell) is not None for cell in first):
        return False
    has_numbers = any(sum(map(is_numeral, column)) > 0.5 * len(column) for column in columns)
    return has_numbers or not any(cell in column for cell, column in zip(first, columns, strict=True))


def is_comment(line: str, comments: str) -> bool:
    """Whether ``line`` begins with one of the signs ``comments``, and not with a missing value such as #N/A.

    >>> is_comment("# by hand", "#%"), is_comment("#N/A,5", "#%"), is_comment("#1,2", "")
    (True, False, False)
    """
    return line.startswith(tuple(comments)) and re.match(r"#(N/A|NA)\s*([,;\t| ]|$)", line, re.IGNORECASE) is None


def is_quoted_after(line: str, *, is_quoted: bool) -> bool:
    """Whether a quoted cell continues behind ``line``: a quote within a cell, as of inches, begins none.

    Args:
        line: a line without its end.
        is_quoted: whether it began before this line.

    >>> [is_quoted_after(line, is_quoted=False) for line in ('5" pipe,1', '"two', '"both",1', '1,"a ""b""')]
    [False, True, False, True]
    """
    for found in re.finditer(r'"+', line):
        begins_cell = found.start() == 0 or line[found.start() - 1] in ",;\t| "
        if len(found[0]) % 2 == 1 and (is_quoted or begins_cell):
            is_quoted = not is_quoted
    return is_quoted


def refuse_commented_rows(comments: Mapping[int, str], dialect: Dialect, reading: ReadOptions, where: str) -> None:
    """Refuse lines of comment that may be rows, as of a table whose first column holds #1, #2, ...

    Such a line has a cell for each column, a number after the first of them, and no space after the sign.

    Args:
        comments: lines that would be left out, by their number in the file.
        dialect: how the table is written.
        reading: what is given by the user; a sign of comments that is given is not doubted.
        where: name of the file for messages.

    Raises:
        DataError: a line that may be a row.
    """
    is_guess = reading.comment == "auto" and dialect.delimiter != "whitespace" and dialect.num_cells > 1
    for number, line in comments.items() if is_guess else ():
        cells = cells_of([line], dialect.delimiter)[0][1]
        has_number = any(map(is_numeral, cells[1:]))
        if line[1:2].strip() and has_number and len(cells) == dialect.num_cells:
            raise DataError(
                f"{where}: row {number} begins with {line[0]!r} as a comment does, but has a cell for each column: "
                f"{line[:60]!r}. Give comment='' (--comment '') to read such rows, or comment={line[0]!r} "
                f"(--comment {line[0]!r}) to leave them out"
            )


def _without_comments(lines: Sequence[str], comments: str) -> list[str | None]:
    """The lines with None in place of comments; lines within a quoted cell are none."""
    found: list[str | None] = []
    is_quoted = False
    for line in lines:
        is_left_out = not is_quoted and is_comment(line, comments)
        found.append(None if is_left_out else line)
        is_quoted = is_quoted if is_left_out else is_quoted_after(line, is_quoted=is_quoted)
    return found


def _is_named(first: Sequence[str], known: Collection[str]) -> bool:
    return bool(known) and set(known) <= set(map(composed, first))


def _delimiter(lines: Sequence[str], *, is_tabs: bool, known: Collection[str]) -> str:
    """The sign that parts every line into equally many cells, and most of them into numbers.

    Where columns are known, a sign that finds their names in the first row goes before all others.
    """
    found = []
    for place, delimiter in enumerate(DELIMITERS):
        rows = [row for _, row in cells_of(lines, delimiter)]
        widths = Counter(len(row) for row in rows)
        width = Counter(len(row) for row in rows[1:] or rows).most_common(1)[0][0]
        if width < 2:
            continue
        agree = (widths[width] + (len(rows[0]) == width - 1 and len(rows) > 1)) / len(rows)
        cells = [cell for row in rows[1:] or rows for cell in row]  # names such as "size 1" say nothing about the cells
        numbers = sum(is_numeral(cell) for cell in cells) / len(cells)
        preferred = is_tabs and delimiter == "\t"
        order = (round(numbers, 3) if agree >= 0.5 else agree, -place, delimiter)
        is_whole = _keeps_quotes(lines, delimiter)
        found.append((_is_named(rows[0], known), is_whole, agree == 1, agree >= 0.5, preferred, *order))
    usable = [one for one in found if one[0] or one[3]] or [one for one in found if one[-1] != "whitespace"]
    return str(max(usable)[-1]) if usable else ("\t" if is_tabs else ",")


def _keeps_quotes(lines: Sequence[str], delimiter: str) -> bool:
    """Whether every quoted cell ends at the sign ``delimiter``, and no text follows its closing quote."""
    sign = " " if delimiter == "whitespace" else delimiter
    plain = (re.sub(r'"[ \t]+([,;|\t]|$)', r'"\1', line.strip() if sign == " " else line) for line in lines)
    try:
        for _ in csv.reader((f"{line}\n" for line in plain), delimiter=sign, skipinitialspace=True, strict=True):
            pass
    except csv.Error as error:
        return "unexpected end" in str(error)  # of the lines that are looked at
    return True


def _saved_index(
    names: Sequence[str], columns: Sequence[Sequence[str]], reading: ReadOptions, where: str
) -> int | None:
    if reading.index == "keep" or len(names) < 2:
        return None
    if reading.index == "drop":
        return 0
    values = columns[0]
    counted = [str(row) for row in range(len(values))]
    is_unnamed = names[0] == "" or re.fullmatch(r"Unnamed: \d+(\.\d+)?", names[0]) is not None
    is_whole = len(set(values)) == len(values) and all(re.fullmatch(r"\d+", value) for value in values)
    is_named_rows = (
        names[0] == "" and len(set(values)) == len(values) and not any(is_numeral(value) for value in values)
    )
    if (
        values
        and (is_unnamed and (is_whole or is_named_rows))
        or (names[0] == "index" and values == counted and len(values) > 1)
    ):
        shown = f"{names[0]!r} " if names[0] else ""
        warnings.warn(
            f"{where}: the first column {shown}numbers or names the rows; it is left out as a saved index, which "
            "index='keep' (--index keep) prevents",
            DataWarning,
            stacklevel=7,
        )
        return 0
    return None
