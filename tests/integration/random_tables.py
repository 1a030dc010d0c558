"""Known tables written in random dialects, and what a reader must find in them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from drl_density.datasets import Column, ReadOptions, open_table
from drl_density.datasets.tables.reading import MISSING_TOKENS
from drl_density.datasets.tables.text.numerals import is_numeral

WORDS = st.text("abcxyzäÖß ,;|\t\"'#%-0123456789\n", min_size=1, max_size=6)
KINDS = ("float", "small", "int", "large", "bool", "label", "numeral")
NUMERALS = ("007", "3", "12", "100")
"""Labels that look like numbers; only the columns of a fit can say that they are none."""
NAMES = ("height", "Breite", "größe", "n 1", "col,5", "x#")
FIRST = {"float": 0.5, "small": 0.25, "int": 7, "large": 11, "bool": True, "label": "lx", "numeral": "12"}
"""Cells of the first row: values, of which the reals leave no doubt about the decimal sign."""
PACK = {
    "none": lambda data: data,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
MARKED = ("utf-8-sig", "utf-16", "utf-32")
"""Encodings that Python writes with a byte order mark."""


@dataclass(frozen=True)
class Written:
    """A table, the bytes that hold it, and the options with which it is read."""

    kinds: tuple[str, ...]
    names: tuple[str, ...]
    cells: list[list[object]]
    data: bytes
    reading: ReadOptions
    chunk: int


def labels():
    """Texts that are neither numbers nor marks of a missing value, whatever is around them."""
    words = st.builds(lambda sign, word: f"{sign}{word.strip()}".strip(), st.sampled_from("llll#%5-é"), WORDS)
    plain = words.filter(lambda word: word.lower() not in MISSING_TOKENS and word.lower() not in ("true", "false"))
    return plain.filter(lambda word: not is_numeral(word))


def values(kind):
    """Cells of one kind with a value."""
    return {
        "float": st.floats(-1e7, 1e7, allow_nan=False).map(lambda x: round(x, 6)),
        "small": st.floats(allow_nan=False, allow_infinity=False, width=64).filter(lambda x: abs(x) < 1e300),
        "int": st.integers(-(10**7), 10**7),
        "large": st.integers(-(2**53) + 1, 2**53 - 1),
        "bool": st.booleans(),
        "label": labels(),
        "numeral": st.sampled_from(NUMERALS),
    }[kind]


def written_number(value, decimal, thousands):
    """A number with the decimal sign and separators of a dialect."""
    text = repr(value) if isinstance(value, int) else repr(float(value))
    if "e" not in text and thousands and abs(value) >= 1000:
        whole, point, fraction = text.partition(".")
        text = f"{int(whole):,}".replace(",", "~") + point + fraction
        if whole.startswith("-0"):
            text = "-" + text
    return text.replace(".", decimal).replace("~", thousands)


@st.composite
def written_tables(draw):
    """A table in a random dialect."""
    kinds = tuple(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5)))
    num_rows = draw(st.integers(2, 12))
    sep = draw(st.sampled_from([",", ";", "\t", "|", "whitespace"]))
    decimal = draw(st.sampled_from([".", ","]))
    groups = {".": ["", "", ",", "'", " "], ",": ["", "", ".", "'", " "]}[decimal]
    thousands = draw(st.sampled_from(groups))
    encoding = draw(st.sampled_from(["utf-8", *MARKED, "utf-16-le", "utf-16-be", "latin-1", "cp1252"]))
    quoting = draw(st.sampled_from(["least", "all", "some"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    has_header = draw(st.booleans())
    spaces = draw(st.sampled_from(["", "", " ", "  "])) if sep != "whitespace" else ""
    cell = {kind: st.one_of(*[values(kind)] * 3, st.none()) for kind in kinds}
    cells = [[draw(cell[kind]) for kind in kinds] for _ in range(num_rows)]
    for place, kind in enumerate(kinds):
        cells[0][place] = FIRST[kind]
    names = tuple(f"{NAMES[place]}{place}" for place in range(len(kinds))) if has_header else ()
    tokens = [token for token in MISSING_TOKENS if token or sep != "whitespace"]

    def written(value, kind):
        if value is None:
            token = draw(st.sampled_from(tokens))
            return draw(st.sampled_from([token, token.upper(), token.capitalize()]))
        if kind == "bool":
            return draw(st.sampled_from([str(value), str(value).lower(), str(value).upper()]))
        return value if kind in ("label", "numeral") else written_number(value, decimal, thousands)

    is_single = sep != "whitespace" and len(kinds) > 1
    has_index = has_header and draw(st.integers(0, 4)) == 0
    has_end = is_single and draw(st.integers(0, 6)) == 0
    is_plain_text = {*kinds} <= {"label", "numeral"}  # above labels alone, a first row may be names as well
    is_named_above = not (has_header or has_end or is_plain_text) and len(kinds) > 1 and draw(st.integers(0, 4)) == 0
    if is_named_above:
        names = tuple(f"{NAMES[place]}{place}" for place in range(len(kinds)))

    def quoted(text, place):
        signs = '\n\r"' + (" \t" if sep == "whitespace" else sep)
        is_blank, is_comment = not text and len(kinds) == 1, place == 0 and text[:1] in ("#", "%")
        must = any(sign in text for sign in signs) or is_blank or is_comment
        if must or quoting == "all" or (quoting == "some" and draw(st.booleans())):
            text = '"' + text.replace('"', '""') + '"'
        return spaces + text + ("" if text.startswith('"') else spaces)

    between = draw(st.sampled_from([" ", "  ", "\t"])) if sep == "whitespace" else sep
    title = [quoted(name, place) for place, name in enumerate(names)]
    if has_index and sep != "whitespace":  # R leaves the name out
        title.insert(0, "")
    if has_end and draw(st.booleans()):
        title.append("")
    lines = [between.join(title)] if has_header else []
    if is_named_above:
        lines = [f"# {between.join(title)}"]
    for number, row in enumerate(cells):
        texts = [written(value, kind) for value, kind in zip(row, kinds, strict=True)]
        texts = [quoted(text, place) for place, text in enumerate(texts)]
        lines.append(between.join([str(number)] * has_index + texts + [""] * has_end))
        if draw(st.integers(0, 9)) == 0:
            lines.append(draw(st.sampled_from(["", "# a remark", "% a remark, another"])))
    is_said = sep != "whitespace" and draw(st.integers(0, 9)) == 0
    if is_said:
        lines.insert(0, f"sep={sep}")
    elif not is_named_above and draw(st.integers(0, 4)) == 0:
        lines.insert(0, draw(st.sampled_from(["", "# by hand", "% by Hans, Berlin"])))
    text = end.join(lines) + draw(st.sampled_from(["", end, end + end]))
    data = PACK[draw(st.sampled_from(list(PACK)))](text.replace("\n", end).encode(encoding))
    others = ",;|\t ".replace(sep, "") if len(sep) == 1 else ",;|"
    is_plain = len(kinds) > 1 and not any(sign in text.replace("% by Hans, Berlin", "") for sign in others)
    is_marked = encoding in MARKED
    reading = ReadOptions(
        header="auto"
        if is_named_above or (has_header and draw(st.booleans()))
        else "first-row"
        if has_header
        else "none",
        delimiter="auto" if is_said or (is_plain and draw(st.booleans())) else sep,
        encoding=draw(st.sampled_from(["auto", encoding])) if is_marked or encoding == "utf-8" else encoding,
        decimal=decimal
        if thousands and not {"float", "small"} & set(kinds)
        else draw(st.sampled_from(["auto", decimal])),
        thousands="auto" if thousands and decimal == "," else draw(st.sampled_from(["auto", thousands])),
        index="auto" if has_header and (has_index or draw(st.booleans())) else "keep",
    )
    return Written(kinds, names, cells, data, reading, draw(st.integers(1, 15)))


def check_reading(table: Written) -> None:
    """Compares every cell that is read with the one that was written: at once, in chunks, and by the columns of a fit."""
    import pandas as pd

    compare(table, open_table(io.BytesIO(table.data), reading=table.reading).read())
    names = table.names or tuple(f"x{place}" for place in range(len(table.kinds)))
    chunks = list(open_table(io.BytesIO(table.data), reading=table.reading).chunks(table.chunk))
    assert {len(chunk) for chunk in chunks[:-1]} <= {table.chunk}
    compare(table, pd.concat(chunks))
    columns = [
        Column(name, "categorical", 1.0, categories=("lx", "ly")) if kind in ("label", "numeral") else Column(name)
        for name, kind in zip(names, table.kinds, strict=True)
    ]
    fitted = open_table(io.BytesIO(table.data), reading=table.reading, columns=columns)
    compare(table, pd.concat(list(fitted.chunks(table.chunk))), is_fitted=True)


def compare(table: Written, frame, *, is_fitted: bool = False) -> None:
    """Every cell and name of ``frame`` is the one that was written; labels are texts where a fit says so."""
    names = table.names or tuple(f"x{place}" for place in range(len(table.kinds)))
    assert tuple(frame.columns) == names
    assert len(frame) == len(table.cells)
    for place, kind in enumerate(table.kinds):
        found = frame[names[place]]
        wanted = [row[place] for row in table.cells]
        assert found.isna().tolist() == [value is None for value in wanted], (names[place], found.tolist(), wanted)
        pairs = [(a, b) for a, b in zip(found.tolist(), wanted, strict=True) if b is not None]
        if kind == "numeral" and not is_fitted:
            assert all(float(a) == float(b) for a, b in pairs), pairs
        elif kind in ("label", "numeral"):
            assert all(a == b for a, b in pairs), pairs
        else:
            assert found.dtype.kind in "iufb", (kind, found.dtype)
            assert all(a == b and not math.isnan(a) for a, b in pairs), pairs
            assert np.isfinite([float(a) for a, _ in pairs]).all()
