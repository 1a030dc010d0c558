"""Help texts: every option states what happens without it, and none shows a None or the markup of docstrings."""

import dataclasses
import re
from typing import Literal

import pytest
import tyro

from drl_density.cli import COMMANDS
from drl_density.cli.help_texts import REGISTRY, plain_text

KINDS = {
    "fit": ["--objective", "adjusted", "--network", "mlp"],
    "fit of images": ["--objective", "cooperative", "--network", "unet", "--schedule", "cosine"],
    "fit of a preset": ["--preset", "digits"],
}
"""Words that choose other settings of ``fit``."""


def options(text):
    """The text of every option in a help text, on one line each."""
    lines = "\n".join(line.strip("│ ") for line in text.splitlines())
    return [" ".join(part.split()) for part in re.split(r"\n(?=--?[a-z])", lines)[1:]]


@pytest.mark.parametrize("name", [*COMMANDS, *KINDS])
def test_every_option_says_what_happens_without_it(name, capsys):
    command = COMMANDS[name.split()[0]].load()
    with pytest.raises(SystemExit):
        command.parse([*KINDS.get(name, []), "--help"], program=name)
    printed = capsys.readouterr().out
    assert re.findall(r"None\b|:class:|\(default: \)|``[a-z_]+``", printed) == []
    unexplained = [text for text in options(printed) if "(optional)" in text and "y default" not in text]
    assert unexplained == []
    assert len(options(printed)) >= 3


@dataclasses.dataclass
class Toy:
    """A toy."""

    size: int | None = None
    """Size; None takes 8, as :class:`~drl.Other` does."""
    kind: Literal["a", "b"] | None = "b"
    """Kind."""
    names: tuple[str, ...] = ()
    """Names."""


def test_options_without_a_value_keep_their_meaning(capsys):
    assert tyro.cli(Toy, args=[], registry=REGISTRY) == Toy()
    assert tyro.cli(Toy, args=["--size", "3", "--names", "x", "y"], registry=REGISTRY) == Toy(3, "b", ("x", "y"))
    assert tyro.cli(Toy, args=["--size", "None", "--kind", "None"], registry=REGISTRY) == Toy(None, None)
    with pytest.raises(SystemExit):
        tyro.cli(Toy, args=["--help"], registry=REGISTRY)
    found = options(capsys.readouterr().out)
    assert "--size INT Size; by default 8, as Other does. (optional)" in found
    assert "--kind {a,b} Kind. (default: b)" in found


def test_a_description_loses_markup_and_line_breaks_but_keeps_its_paragraphs():
    assert plain_text("One\n  line of ``code``.\n\nNone takes 2.") == "One line of code.\n\nBy default 2."
