"""Words that docs/contributing.md rules out are found in no page, no docstring, no message and no help text."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_generated" not in page.parts)]
CODE = [path for folder in ("drl_density", "examples", "docs") for path in sorted((ROOT / folder).rglob("*.py"))]


def ruled_out():
    """Regular expressions of the first column of the list, in which commas part words."""
    listed = (
        (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8").partition("## Words")[2].partition("\n## ")[0]
    )
    rows = re.findall(r"^\| ([a-z, ]+) \| [^-|]+ \|$", listed, re.MULTILINE)
    return [re.escape(word).replace(r"\ ", r"\s+") for row in rows for word in row.split(", ")]


WORDS = re.compile(rf"\b({'|'.join(ruled_out())})\b", re.IGNORECASE)


def blank(match):
    """As many lines without text."""
    return "\n" * match[0].count("\n")


def prose(text, mark):
    """Text without fenced blocks, code in ``mark`` and the list itself, on the same lines."""
    text = re.sub(r"^## Words\n.*?(?=^## |\Z)", blank, text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^```.*?^```", blank, text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(rf"{mark}[^`]*{mark}", blank, text)


def strings(source):
    """Line and text of every string of a module, without literals in double backquotes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, prose(node.value, "``")


def found(text, first=1):
    """Line and word of every word that is ruled out."""
    return [(first + text.count("\n", 0, match.start()), match[1]) for match in WORDS.finditer(text)]


@cache
def source_hits():
    """Words found in strings; most modules are not parsed, since no line of theirs has one."""
    hits = {}
    for path in CODE:
        source = path.read_text(encoding="utf-8")
        if WORDS.search(source):
            hits[path.relative_to(ROOT).as_posix()] = [
                hit for line, text in strings(source) for hit in found(text, line)
            ]
    return {path: words for path, words in hits.items() if words}


def test_pages_use_the_words_of_the_field():
    hits = {page.relative_to(ROOT).as_posix(): found(prose(page.read_text(encoding="utf-8"), "`")) for page in PAGES}
    assert {page: words for page, words in hits.items() if words} == {}


def test_docstrings_and_messages_use_the_words_of_the_field():
    assert source_hits() == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Columns that hang\ntogether.", ["hang\ntogether"]),
        ("`told` is code.\n```\nholes\n```\nA card, uncut; it Goes on.", ["card", "uncut", "Goes on"]),
        ("cardinal, wholes, cut off, household, retold", []),
    ],
)
def test_the_search_notices(text, words):
    assert [word for _, word in found(prose(text, "`"))] == words


def test_the_search_reads_strings_and_their_lines():
    source = (
        'def f(x):\n    """First.\n\n    A dear call of ``told``.\n    """\n    raise ValueError(f"{x} was told")\n'
    )
    assert [hit for line, text in strings(source) for hit in found(text, line)] == [(4, "dear"), (6, "told")]
