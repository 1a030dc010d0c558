"""Bytes of a text table from a path, standard input or an open file, compressed or not, in blocks of whole rows."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import sys
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drl_density.datasets.tables.reading import missing_extra
from drl_density.datasets.tables.text.dialect import is_comment, is_quoted_after
from drl_density.errors import DataError

__all__ = ["Block", "ByteSource", "blocks_of", "count_of", "decoded", "without_comments"]

BLOCK = 1 << 23
"""Bytes of a block, before its last row is completed."""
HELD = 1 << 26
"""Bytes of a stream that are held in memory; a longer one is held in a temporary file."""
LONGEST_ROW = 1 << 28
"""Bytes after which a quote that is not closed is an error."""
FOREIGN = {
    b"PK\x03\x04": "a zip archive or a workbook; unpack it, or save it as csv",
    b"\xd0\xcf\x11\xe0": "a workbook of an old kind; save it as csv",
    b"PAR1": "a Parquet file; give its path, with an ending in .parquet, or pandas.read_parquet of it",
    b"ARROW1": "an Arrow file; give the frame that pandas.read_feather makes of it",
    b"\x89HDF": "an HDF5 or netCDF file; give its path, with the ending .nc, or one of its arrays",
    b"\x93NUMPY"[:6]: "an array of NumPy; give its path, with the ending .npy",
    b"%PDF": "a PDF document, not a table",
}
"""What a file is that begins with these bytes, and is no text."""
_FAULTS = (OSError, EOFError, zlib.error, lzma.LZMAError)


class Block(NamedTuple):
    """Whole rows of a table.

    Attributes:
        text: the rows in UTF-8 with LF ends.
        line: number of their first line in the file, from 1.
    """

    text: bytes
    line: int


class ByteSource:
    """The decompressed bytes of a file or stream.

    Args:
        source: path, ``"-"`` for standard input, or an open file.
        once: whether they are read a single time, so that a stream need not be held.

    Raises:
        DataError: no such file, or a compression that cannot be read.
    """

    def __init__(self, source: Any, *, once: bool) -> None:
        is_path = isinstance(source, str | Path) and str(source) != "-"
        name = str(source) if is_path else getattr(source, "name", None)
        self.where = name if isinstance(name, str) and name != "-" and source is not sys.stdin else "standard input"
        self._path = Path(source) if is_path and Path(source).is_file() else None
        self._state = self._now()
        self._close: Callable[[], object] = lambda: None
        self._pieces: Iterator[bytes] | None = None
        self._held: Any = None
        if self._path is None:
            stream = _binary(source, self.where)
            if is_path:  # it may never be read to its end, nor even begun
                self._close = weakref.finalize(self, stream.close)
            self._pieces = _unpacked(stream, self.where)
            if not once:
                self._held = tempfile.SpooledTemporaryFile(HELD)  # noqa: SIM115
                weakref.finalize(self, self._held.close)
                self._hold(self._pieces)
                self._close()

    def _hold(self, pieces: Iterator[bytes]) -> None:
        """Keeps a stream that is read more than once.

        Raises:
            DataError: no room for its temporary file.
        """
        for piece in pieces:
            try:
                self._held.write(piece)
            except OSError as error:
                raise DataError(
                    f"{self.where}: is read twice, and its temporary file in {tempfile.gettempdir()} cannot be written "
                    f"({error.strerror or error}); give a file, or a folder with more room by the variable TMPDIR"
                ) from error

    def _now(self) -> tuple[int, int, int]:
        """What changes where another program writes to the file."""
        if self._path is None:
            return 0, 0, 0
        found = self._path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def refuse_change(self) -> None:
        """Refuses a file that was written to since it was opened: its rows may be of two tables.

        Raises:
            DataError: such a file, or one that is no longer there.
        """
        try:
            is_same = self._now() == self._state
        except OSError:
            is_same = False
        if not is_same:
            raise DataError(
                f"{self.where}: was changed by another program while it was read; read it again once it is complete, or "
                "read a copy of it"
            )

    def pieces(self) -> Iterator[bytes]:
        """The bytes in pieces of at most :data:`BLOCK`.

        Raises:
            DataError: a file that cannot be read to its end, or a stream that is read twice.
        """
        if self._path is not None:
            try:
                with self._path.open("rb") as stream:
                    yield from _unpacked(stream, self.where)
            except OSError as error:
                raise DataError(f"{self.where}: cannot be read ({error})") from error
        elif self._held is not None:
            self._held.seek(0)
            while piece := self._held.read(BLOCK):
                yield piece
        elif self._pieces is not None:
            pieces, self._pieces = self._pieces, None
            yield from pieces
            self._close()
        else:
            raise DataError(f"{self.where} can be read only once")


def _unpacked(stream: Any, where: str) -> Iterator[bytes]:
    """The decompressed bytes of ``stream``, which stays open."""
    is_own = not isinstance(stream, io.BufferedReader)
    buffered = io.BufferedReader(stream) if is_own else stream
    unpacked = None
    try:
        unpacked = _decompressed(buffered, where)
        while piece := unpacked.read(BLOCK):
            yield piece
    except _FAULTS as error:
        raise DataError(f"{where}: cannot be read ({error}); is the file complete?") from error
    finally:
        if unpacked is not None and unpacked is not buffered:
            unpacked.close()
        if is_own:  # a buffer that is collected would close a file that belongs to the caller
            buffered.detach()


def _binary(source: Any, where: str) -> Any:
    """The binary stream of a path, of standard input or of an open file."""
    try:
        if isinstance(source, str | Path):
            return sys.stdin.buffer if str(source) == "-" else Path(source).open("rb")
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error})") from error
    if isinstance(source, io.TextIOBase):
        return getattr(source, "buffer", None) or io.BytesIO(source.read().encode())
    return source


class _Borrowed:
    """A stream that is read here and closed by its owner."""

    closed = False

    def __init__(self, stream: io.BufferedReader) -> None:
        self.read = stream.read

    def close(self) -> None:
        """Nothing."""


def _decompressed(stream: io.BufferedReader, where: str) -> Any:
    """``stream`` without its compression, which is recognised by its first bytes."""
    head = stream.peek(6)[:6]
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(stream)
    if head.startswith(b"BZh"):
        return bz2.open(stream)
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.open(stream)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            import pyarrow as pa
        except ImportError as error:
            raise missing_extra(where, "reading zstd needs pyarrow") from error
        return pa.CompressedInputStream(_Borrowed(stream), "zstd")
    for sign, what in FOREIGN.items():
        if head.startswith(sign):
            raise DataError(f"{where}: is {what}")
    return stream


def decoded(pieces: Iterator[bytes], encoding: str, where: str, *, num_skipped: int = 0) -> Iterator[bytes]:
    """The same text in UTF-8 with LF ends.

    Args:
        pieces: bytes in ``encoding``.
        encoding: name of the encoding.
        where: name of the file for messages.
        num_skipped: length of a byte order mark.

    Raises:
        DataError: bytes that are no text in ``encoding``; the message gives the line.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    held, line = b"", 1
    for piece in chain(pieces, [b""]):
        is_last = not piece
        piece, num_skipped = piece[num_skipped:], 0
        try:
            text = decoder.decode(piece, final=is_last)
        except UnicodeDecodeError as error:
            at = line + error.object[: error.start].count(b"\n")
            bad = error.object[error.start : error.start + 1].hex()
            raise DataError(
                f"{where}: line {at} is no text in {encoding}: byte 0x{bad} ({error.reason}). Give the file's encoding with "
                "encoding='latin-1', 'cp1252', 'utf-16' or the like (--encoding latin-1)"
            ) from error
        if "\0" in text:
            at = line + text[: text.index("\0")].count("\n")
            raise DataError(
                f"{where}: line {at} has a zero byte, which no text has: is the file damaged, or in another encoding "
                "(--encoding utf-16-le)?"
            )
        made = held + (piece if is_utf8 else text.encode())
        held = b"\r" if made.endswith(b"\r") and not is_last else b""  # its LF may be in the next piece
        made = made[: len(made) - len(held)]
        if b"\r" in made:
            made = made.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        line += count_of(made, b"\n")
        if made:
            yield made


def blocks_of(pieces: Iterator[bytes], num_skipped: int, where: str) -> Iterator[Block]:
    """Blocks of whole rows after the first ``num_skipped`` lines, of UTF-8 text with LF ends.

    Raises:
        DataError: a quote that is never closed.
    """
    held, line = b"", 1
    for piece in pieces:
        held += piece
        while num_skipped and (end := held.find(b"\n") + 1):
            held, line, num_skipped = held[end:], line + 1, num_skipped - 1
        if num_skipped or len(held) < BLOCK // 2:
            continue
        end = end_of_rows(held)
        if end:
            yield Block(held[:end], line)
            line += count_of(held[:end], b"\n")
            held = held[end:]
        elif len(held) > LONGEST_ROW:
            raise DataError(f"{where}: a row from line {line} on does not end; is a quote not closed?")
    if held and not num_skipped:
        yield Block(held, line)


def count_of(text: bytes, sign: bytes) -> int:
    """How often ``sign`` occurs, for signs that are frequent: many times faster than ``bytes.count``.

    >>> count_of(b"1,2,3", b",")
    2
    """
    if len(sign) > 1:
        return text.count(sign)
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == sign[0]))


def end_of_rows(text: bytes) -> int:
    """The end of the last whole row in ``text``: behind a line end outside quotes; 0 without one.

    >>> end_of_rows(b'1,2\\n"a\\nb'), end_of_rows(b'1,2\\n3')
    (4, 4)
    """
    end = text.rfind(b"\n") + 1
    if b'"' not in text or text.count(b'"', 0, end) % 2 == 0:
        return end
    last, is_quoted = 0, False
    for found in re.finditer(rb'"+|\n', text[:end]):
        if found[0] == b"\n":
            last = last if is_quoted else found.end()
            continue
        if is_quoted:
            is_quoted = len(found[0]) % 2 == 0
        else:
            before = text[found.start() - 1 : found.start()]
            begins_cell = found.start() == 0 or before in b",;\t|\n "
            is_quoted = begins_cell and len(found[0]) % 2 == 1
    return last


def without_comments(block: Block, comments: str) -> tuple[Block, dict[int, str]]:
    """(the block with empty lines in place of comments, these by their line); lines within a quoted cell are no comments.

    >>> without_comments(Block(b"1,2\\n# by hand\\n3,4\\n", 1), "#")
    (Block(text=b'1,2\\n\\n3,4\\n', line=1), {2: '# by hand'})
    """
    signs = tuple(sign.encode() for sign in comments)
    if not any(sign in block.text and (block.text.startswith(sign) or b"\n" + sign in block.text) for sign in signs):
        return block, {}
    made, is_quoted, found = [], False, dict[int, str]()
    for number, line in enumerate(block.text.split(b"\n"), block.line):
        if not is_quoted and line.startswith(signs) and is_comment(line.decode(), comments):
            made.append(b"")
            found[number] = line.decode().rstrip("\r")
            continue
        if b'"' in line:
            is_quoted = is_quoted_after(line.decode(), is_quoted=is_quoted)
        made.append(line)
    return Block(b"\n".join(made), block.line), found
