"""Report pages: everything that is given is shown, in order, escaped, with its verdict's colour."""

import base64
import re

import pytest
from matplotlib.figure import Figure

from drl_density.errors import Verdict
from drl_density.reports import ReportPage, ReportTable, figure_to_base64


def page(**changes):
    return ReportPage(
        **({"title": "A title", "lead": "A lead.", "verdict": Verdict.DOUBTFUL, "advice": "Look twice."} | changes)
    )


def in_order(text, *parts):
    """Whether the parts occur in a text one after another."""
    places = [text.index(part) for part in parts]
    return places == sorted(places)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_a_colour(verdict):
    html = page(verdict=verdict).to_html()
    assert f'<span class="verdict {verdict}">log Z {verdict}</span>' in html
    assert re.search(rf"\.{verdict}\b[^{{}}]*{{ background: #", html)


def test_parts_are_shown_in_order():
    table = ReportTable("Numbers", ("a", "b"), (("1", "2"),), note="A note.")
    figures = {"First": Figure(figsize=(1, 1)), "Second": Figure(figsize=(1, 1))}
    html = page(
        tables=(table,), figures=figures, appendix="seed 0", words=("In words.",), notes={"Second": "Below."}, opening=1
    ).to_html()
    assert in_order(
        html, "<h1>A title</h1>", "A lead.", "Look twice.", "In words.", "<h2>First</h2>", "<h2>Numbers</h2>", "A note.",
        "<h2>Second</h2>", "Below.", "seed 0",
    )  # fmt: skip
    assert html.count("data:image/png;base64,") == 2


def test_cells_of_text_and_answers_have_their_style():
    html = page(tables=(ReportTable("T", ("what",), (("yes",), ("no",), ("maybe",)), is_text=True),)).to_html()
    assert "<table class=text>" in html
    assert "<td class=yes>yes</td>" in html
    assert "<td class=no>no</td>" in html
    assert "<td>maybe</td>" in html


def test_text_is_escaped():
    assert "<b>" not in page(title="<b>", lead="<b>", advice="<b>", appendix="<b>").to_html()


def test_other_pages_are_appended():
    other = page(title="Hidden", subject="chains", verdict=Verdict.STABLE, advice="They mix.", appendix="steps 9")
    html = page(others=(other,), appendix="seed 0").to_html()
    assert in_order(html, "log Z doubtful", "chains stable", "They mix.", "seed 0\n\nsteps 9")
    assert "Hidden" not in html


def test_figures_are_png():
    assert base64.b64decode(figure_to_base64(Figure(figsize=(1, 1)))).startswith(b"\x89PNG\r\n")
