"""Bytes of text tables: compressions, encodings, line ends and blocks of whole rows."""

import bz2
import errno
import gc
import gzip
import io
import lzma
import os
import threading

import pyarrow as pa
import pytest

from drl_density.datasets import open_table
from drl_density.datasets.tables.text import sources
from drl_density.datasets.tables.text.sources import (
    Block,
    ByteSource,
    blocks_of,
    decoded,
    end_of_rows,
    without_comments,
)
from drl_density.errors import DataError

TEXT = b"a,b\n1,2\n3,4\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_compressions_are_told_by_their_first_bytes(pack, tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(pack(TEXT))
    with path.open("rb") as opened:
        for source in (path, str(path), io.BytesIO(pack(TEXT)), opened):
            for once in (True, False):
                if hasattr(source, "seek"):
                    source.seek(0)
                assert b"".join(ByteSource(source, once=once).pieces()) == TEXT
    assert ByteSource(path, once=False).where == str(path)


@pytest.mark.parametrize("is_open", [False, True])
def test_zstd(is_open, tmp_path, capfd):
    packed = pa.compress(TEXT, codec="zstd", asbytes=True)
    path = tmp_path / "t.csv.zst"
    path.write_bytes(packed)
    source = io.BytesIO(packed) if is_open else path
    assert b"".join(ByteSource(source, once=True).pieces()) == TEXT
    assert not is_open or source.read() == b""  # it stays open
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_while_a_stream_is_held(monkeypatch):
    class Full(io.BytesIO):
        def write(self, piece):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sources.tempfile, "SpooledTemporaryFile", lambda size: Full())
    with pytest.raises(DataError, match=r"standard input: is read twice.*No space left on device.*TMPDIR"):
        ByteSource(io.BytesIO(TEXT), once=False)
    assert b"".join(ByteSource(io.BytesIO(TEXT), once=True).pieces()) == TEXT


def test_a_stream_is_held_unless_it_is_read_once():
    held, fleeting = ByteSource(io.BytesIO(TEXT), once=False), ByteSource(io.BytesIO(TEXT), once=True)
    assert b"".join(held.pieces()) == b"".join(held.pieces()) == b"".join(fleeting.pieces())
    with pytest.raises(DataError, match="can be read only once"):
        next(fleeting.pieces())


def test_faulty_sources_are_named(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(TEXT * 1000)[:60])
    with pytest.raises(DataError, match="t.csv.gz: cannot be read .*is the file complete"):
        list(ByteSource(tmp_path / "t.csv.gz", once=True).pieces())
    (tmp_path / "t.zip").write_bytes(b"PK\x03\x04....")
    with pytest.raises(DataError, match="is a zip archive or a workbook"):
        list(ByteSource(tmp_path / "t.zip", once=True).pieces())
    with pytest.raises(DataError, match="none.csv: cannot be read"):
        ByteSource(tmp_path / "none.csv", once=True)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_becomes_utf8_with_lf(encoding, end):
    data = f"größe,b{end}1,2{end}".encode(encoding)
    for size in (1, 2, 3, 50):
        pieces = (data[at : at + size] for at in range(0, len(data), size))
        assert b"".join(decoded(pieces, encoding, "t.csv")).decode() == "größe,b\n1,2\n"


def test_a_wrong_encoding_names_the_line_and_the_option():
    with pytest.raises(DataError, match=r"t.csv: line 2 is no text in utf-8: byte 0xe9.*--encoding latin-1"):
        list(decoded(iter([b"a\n\xe9t\xe9,1\n"]), "utf-8", "t.csv"))


def test_blocks_hold_whole_rows(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 8)
    text = b'a,b\n1,2\n"x\ny",3\n4,5\n6,7'
    pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
    blocks = list(blocks_of(iter(pieces), 1, "t.csv"))
    assert b"".join(block.text for block in blocks) == text[4:]
    assert len(blocks) > 1
    assert all(block.text.count(b'"') % 2 == 0 for block in blocks)
    begins = [text.find(block.text) for block in blocks]
    assert [block.line for block in blocks] == [1 + text[:begin].count(b"\n") for begin in begins]
    monkeypatch.setattr(sources, "LONGEST_ROW", 20)
    with pytest.raises(DataError, match="a row from line 1 on does not end; is a quote not closed"):
        list(blocks_of(iter([b'"abc', b"d" * 30]), 0, "t.csv"))


def test_rows_end_outside_quotes():
    assert end_of_rows(b'5" tall,1\n6,2\nrest') == 14
    assert end_of_rows(b'"a\nb') == 0
    assert end_of_rows(b'1,"a""b"\n"c\n') == 9


def test_comments_become_empty_lines_but_not_within_quotes():
    block, found = without_comments(Block(b'1,2\n# no\n#N/A,3\n"x\n#y",4\n% z\n', 5), "#%")
    assert block == (b'1,2\n\n#N/A,3\n"x\n#y",4\n\n', 5)
    assert found == {6: "# no", 10: "% z"}
    assert without_comments(block, "") == (block, {})


@pytest.mark.parametrize("num_pieces", [0, 1, 2])
def test_a_named_pipe_is_closed_however_far_it_was_read(num_pieces, tmp_path, monkeypatch):
    """Not begun, left in the middle, or read to its end: an open file that is collected would be a warning."""
    monkeypatch.setattr(sources, "BLOCK", 4)
    path, closed = tmp_path / "pipe", []
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(TEXT,))
    writer.start()
    real = sources._binary

    def watched(source, where):
        stream = real(source, where)
        closed.append(stream)
        return stream

    monkeypatch.setattr(sources, "_binary", watched)
    source = ByteSource(path, once=True)
    pieces = source.pieces()
    read = b"".join(next(pieces) for _ in range(num_pieces)) if num_pieces < 2 else b"".join(pieces)
    writer.join()
    assert TEXT.startswith(read)
    del source, pieces
    assert closed[0].closed


@pytest.mark.parametrize("head", [b"PAR1", b"ARROW1", b"\x89HDF\r\n", b"\x93NUMPY", b"\xd0\xcf\x11\xe0", b"%PDF-1"])
def test_files_of_other_kinds_are_named(head):
    with pytest.raises(DataError, match="is an? "):
        open_table(io.BytesIO(head + b"\0" * 40))


def test_a_zero_byte_is_refused_wherever_it_is():
    with pytest.raises(DataError, match="line 4 has a zero byte"):
        list(decoded(iter([b"a\n1\n", b"2\n\0x"]), "utf-8", "t.csv"))


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 20)
    table = open_table(path)
    with path.open("a") as file:
        file.write("3,4\n")
    with pytest.raises(DataError, match="changed by another program"):
        table.read()
    path.unlink()
    with pytest.raises(DataError, match="changed by another program"):
        ByteSource.refuse_change(table._source)
