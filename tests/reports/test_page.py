"""Report pages: everything that is given is shown, in order, escaped, with its verdict's colour."""

import pytest

from drl_density.errors import Verdict
from drl_density.plots import new_axes
from drl_density.reports import KeyFigure, ReportPage, ReportPanel, ReportSection, ReportTable


def page(**changes):
    return ReportPage(
        **({"title": "A title", "lead": "A lead.", "verdict": Verdict.DOUBTFUL, "advice": "Look twice."} | changes)
    )


def in_order(text, *parts):
    """Whether the parts occur in a text one after another."""
    places = [text.index(part) for part in parts]
    return places == sorted(places)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_verdict_is_a_word(verdict):
    assert f'<span class="verdict {verdict}">log Z {verdict}</span>' in page(verdict=verdict).to_html()


def test_parts_are_shown_in_order():
    table = ReportTable("Numbers", ("a", "b"), (("1", "2"),), note="A note.")
    panels = tuple(ReportPanel(new_axes(), f"alt {name}", f"{name} title", "Below.") for name in ("first", "second"))
    sections = (
        ReportSection(
            "One", ("Some words.",), items=("a point", "run `drl-density fit`"), panels=panels, tables=(table,)
        ),
        ReportSection("Two", is_small=True, panels=panels[:1]),
    )
    html = page(
        sections=sections, appendix="seed 0", words=("In words.",), key_figures=(KeyFigure("gain", "0.25", "+- 0.1"),)
    ).to_html()
    places = [
        html.index(part)
        for part in (
            "<h1>A title</h1>", "A lead.", "Look twice.", "In words.", "<dt>gain</dt>", "0.25</dd>", "+- 0.1",
            "<h2>One</h2>", "Some words.", "<li>a point</li>", "<code>drl-density fit</code>", 'aria-label="alt first"',
            "<b>first title</b>", "Below.", 'aria-label="alt second"', "<h3>Numbers</h3>", "A note.",
            "<h2>Two</h2>", "seed 0",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert html.count("<svg") == 3
    assert html.count('class="panels small"') == 1


def test_cells_of_text_and_answers_have_their_style():
    table = ReportTable("T", ("what",), (("yes",), ("no",), ("maybe",)), is_text=True)
    html = page(sections=(ReportSection("S", tables=(table,)),)).to_html()
    assert "<table class=text>" in html
    assert '<td class=yes data-name="what">yes</td>' in html
    assert '<td class=no data-name="what">no</td>' in html
    assert '<td data-name="what">maybe</td>' in html


def test_text_is_escaped():
    panels = (ReportPanel(new_axes(), '"<i>'),)
    section = ReportSection("<i>", ("<i>",), items=("<i> `<i>`",), panels=panels)
    html = page(title="<i>", lead="<i>", advice="<i>", appendix="<i>", words=("<i>",), sections=(section,)).to_html()
    assert "<i>" not in html


def test_other_pages_are_appended():
    other = page(
        title="Hidden",
        subject="chains",
        verdict=Verdict.STABLE,
        advice="They mix.",
        appendix="steps 9",
        sections=(ReportSection("Chains"),),
    )
    html = page(others=(other,), appendix="seed 0").to_html()
    assert in_order(html, "log Z doubtful", "chains stable", "They mix.", "<h2>Chains</h2>", "seed 0\n\nsteps 9")
    assert "Hidden" not in html
