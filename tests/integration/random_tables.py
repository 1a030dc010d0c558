"""Known tables written in random dialects, and what a reader must find in them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from drl_density.datasets import Column, ReadOptions, open_table
from drl_density.datasets.tables.reading import MISSING_TOKENS

WORDS = st.text("abcxyzäÖß ,;|\t\"'#%-0123456789\n", min_size=1, max_size=6)
KINDS = ("float", "small", "int", "large", "bool", "label")
NAMES = ("height", "Breite", "größe", "n 1", "col,5", "x#")
PACK = {"none": lambda data: data, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


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
    words = WORDS.map(lambda word: f"l{word.strip()}".strip())
    return words.filter(lambda word: word.lower() not in MISSING_TOKENS)


def values(kind):
    """Cells of one kind with a value."""
    return {
        "float": st.floats(-1e7, 1e7, allow_nan=False).map(lambda x: round(x, 6)),
        "small": st.floats(allow_nan=False, allow_infinity=False, width=64).filter(lambda x: abs(x) < 1e300),
        "int": st.integers(-(10**7), 10**7),
        "large": st.integers(-(2**53) + 1, 2**53 - 1),
        "bool": st.booleans(),
        "label": labels(),
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
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    quoting = draw(st.sampled_from(["least", "all", "some"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    has_header = draw(st.booleans())
    spaces = draw(st.sampled_from(["", "", " ", "  "])) if sep != "whitespace" else ""
    cell = {kind: st.one_of(*[values(kind)] * 3, st.none()) for kind in kinds}
    cells = [[draw(cell[kind]) for kind in kinds] for _ in range(num_rows)]
    for place, kind in enumerate(
        kinds
    ):  # one cell that leaves no doubt about the decimal sign, and one value in any case
        cells[0][place] = {"float": 0.5, "small": 0.25, "int": 7, "large": 11, "bool": True, "label": "lx"}[kind]
    names = tuple(f"{NAMES[place]}{place}" for place in range(len(kinds))) if has_header else ()
    tokens = [token for token in MISSING_TOKENS if token or sep != "whitespace"]

    def written(value, kind):
        if value is None:
            token = draw(st.sampled_from(tokens))
            return draw(st.sampled_from([token, token.upper(), token.capitalize()]))
        if kind == "bool":
            return draw(st.sampled_from([str(value), str(value).lower(), str(value).upper()]))
        return value if kind == "label" else written_number(value, decimal, thousands)

    def quoted(text, place):
        signs = '\n\r"' + (" \t" if sep == "whitespace" else sep)
        is_blank, is_comment = not text and len(kinds) == 1, place == 0 and text[:1] in ("#", "%")
        must = any(sign in text for sign in signs) or is_blank or is_comment
        if must or quoting == "all" or (quoting == "some" and draw(st.booleans())):
            text = '"' + text.replace('"', '""') + '"'
        return spaces + text + ("" if text.startswith('"') else spaces)

    between = draw(st.sampled_from([" ", "  ", "\t"])) if sep == "whitespace" else sep
    lines = [between.join(quoted(name, place) for place, name in enumerate(names))] if has_header else []
    for row in cells:
        texts = [written(value, kind) for value, kind in zip(row, kinds, strict=True)]
        lines.append(between.join(quoted(text, place) for place, text in enumerate(texts)))
        if draw(st.integers(0, 9)) == 0:
            lines.append(draw(st.sampled_from(["", "# a remark", "% a remark, another"])))
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    data = PACK[draw(st.sampled_from(list(PACK)))](text.replace("\n", end).encode(encoding))
    is_plain = (
        not any(sign in text for sign in (",;|\t ".replace(sep, "") if len(sep) == 1 else ",;|")) and len(kinds) > 1
    )
    reading = ReadOptions(
        header="auto" if has_header and draw(st.booleans()) else "first-row" if has_header else "none",
        delimiter="auto" if is_plain and draw(st.booleans()) else sep,
        encoding=encoding if encoding == "latin-1" else draw(st.sampled_from(["auto", encoding])),
        decimal=decimal
        if thousands and not {"float", "small"} & set(kinds)
        else draw(st.sampled_from(["auto", decimal])),
        thousands="auto" if thousands and decimal == "," else draw(st.sampled_from(["auto", thousands])),
        index="keep",
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
        Column(name, "categorical", 1.0, categories=("lx", "ly")) if kind == "label" else Column(name)
        for name, kind in zip(names, table.kinds, strict=True)
    ]
    fitted = open_table(io.BytesIO(table.data), reading=table.reading, columns=columns)
    compare(table, pd.concat(list(fitted.chunks(table.chunk))))


def compare(table: Written, frame) -> None:
    """Every cell and name of ``frame`` is the one that was written."""
    names = table.names or tuple(f"x{place}" for place in range(len(table.kinds)))
    assert tuple(frame.columns) == names
    assert len(frame) == len(table.cells)
    for place, kind in enumerate(table.kinds):
        found = frame[names[place]]
        wanted = [row[place] for row in table.cells]
        assert found.isna().tolist() == [value is None for value in wanted], (names[place], found.tolist(), wanted)
        pairs = [(a, b) for a, b in zip(found.tolist(), wanted, strict=True) if b is not None]
        if kind == "label":
            assert all(a == b for a, b in pairs), pairs
        else:
            assert found.dtype.kind in "iufb", (kind, found.dtype)
            assert all(a == b and not math.isnan(a) for a, b in pairs), pairs
            assert np.isfinite([float(a) for a, _ in pairs]).all()
