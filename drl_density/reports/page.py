"""The report page of a run: one self-contained HTML file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup, escape

from drl_density.errors import Verdict
from drl_density.reports.figures import figure_to_svg
from drl_density.reports.style import STYLE, TEMPLATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class ReportTable:
    """One table of a report page.

    Attributes:
        title: heading above the table; none where it is empty.
        header: names of the columns, one per cell of a row.
        rows: cells as formatted text.
        note: paragraph below the table, left out where it is empty.
        is_text: whether cells hold words, which are aligned to the left; numbers are aligned to the right.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class ReportPanel:
    """One figure of a report page.

    Attributes:
        axes: any axes of the Matplotlib figure.
        alt: what the figure shows, in words, for readers who do not see it.
        title: first words of the caption, in bold.
        note: rest of the caption.
    """

    axes: Axes
    alt: str
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class KeyFigure:
    """A number that a reader looks for first.

    Attributes:
        name: what the number is, with its unit.
        number: the number as text.
        detail: its error or interval, in smaller type.
    """

    name: str
    number: str
    detail: str = ""


@dataclass(frozen=True)
class ReportSection:
    """A part of a report page with a heading.

    Attributes:
        title: heading above the section.
        words: paragraphs below the heading.
        items: points of a list.
        panels: figures, next to each other where there is room.
        tables: tables below the figures.
        is_small: whether several panels stand next to each other on a telephone too.
    """

    title: str
    words: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    panels: tuple[ReportPanel, ...] = ()
    tables: tuple[ReportTable, ...] = ()
    is_small: bool = False


@dataclass(frozen=True)
class ReportPage:
    """Contents of a report page, in the order in which they are shown.

    Attributes:
        title: title of the window and heading of the page.
        lead: sentence below the heading.
        verdict: judgement shown in colour; its string is the CSS class of that colour.
        advice: sentence next to the verdict.
        words: paragraphs in plain language below the verdict.
        key_figures: numbers that a reader looks for first.
        sections: parts with headings, in the order of the page.
        appendix: plain text at the end of the page, such as settings.
        subject: the quantity that the verdict judges.
        others: pages whose verdicts, words, sections and appendices are appended to this one.
    """

    title: str
    lead: str
    verdict: Verdict
    advice: str
    words: tuple[str, ...] = ()
    key_figures: tuple[KeyFigure, ...] = ()
    sections: tuple[ReportSection, ...] = ()
    appendix: str = ""
    subject: str = "log Z"
    others: tuple[ReportPage, ...] = field(default=())

    def to_html(self) -> str:
        """Render the page as one HTML document with its figures in it; no script and no other file is needed.

        >>> page = ReportPage("A run", "Ten rows.", Verdict.RELIABLE, "All checks hold.")
        >>> page.to_html()[:15]
        '<!doctype html>'
        """
        environment = jinja2.Environment(autoescape=True)
        environment.filters["marked"] = _marked
        pages = (self, *self.others)
        sections, number = [], 0
        for section in (section for page in pages for section in page.sections):
            drawn = []
            for panel in section.panels:
                number += 1
                # The text of a figure is escaped by matplotlib.
                drawn.append((Markup(figure_to_svg(panel.axes.figure, name=f"f{number}")), panel))  # pyright: ignore
            sections.append(SimpleNamespace(**{**vars(section), "panels": drawn}))
        return environment.from_string(TEMPLATE).render(
            page=self,
            style=Markup(STYLE),
            remarks=[(page.subject, page.verdict, page.advice) for page in pages],
            words=[text for page in pages for text in page.words],
            sections=sections,
            appendix="\n\n".join(page.appendix for page in pages if page.appendix),
        )


def _marked(text: str) -> Markup:
    """Escaped text with commands between backticks marked as such."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
