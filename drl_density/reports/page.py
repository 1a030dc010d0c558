"""The report page of a run: one self-contained HTML file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jinja2

from drl_density.errors import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>
 body { font: 16px/1.5 system-ui, sans-serif; color: #22303c; max-width: 60rem; margin: 2.5rem auto; padding: 0 1rem; }
 h1 { font-weight: 600; margin-bottom: .2rem; } h2 { font-weight: 600; margin-top: 2.2rem; }
 .verdict { display: inline-block; padding: .15rem .6rem; border-radius: .4rem; color: white; }
 .reliable { background: #2a7f62; } .doubtful { background: #c98a1b; } .unreliable { background: #b3364a; }
 .unknown, .improper { background: #5b5b6b; } .stable { background: #2a7f62; } .slow { background: #c98a1b; }
 .drifting { background: #b3364a; }
 table { border-collapse: collapse; margin: .8rem 0; } td, th { padding: .3rem .9rem; text-align: right;
 border-bottom: 1px solid #dde3e8; } td:first-child, th:first-child { text-align: left; }
 img { max-width: 100%; } .words { border-left: 4px solid #dde3e8; padding-left: 1rem; }
 table.text td, table.text th { text-align: left; vertical-align: top; }
 td.yes { color: #2a7f62; }
 td.no { color: #b3364a; font-weight: 600; } p.note { color: #5b6b79; font-size: .92rem; }
 pre { background: #f4f6f8; padding: .8rem; white-space: pre-wrap; overflow-x: auto; font-size: .85rem; }
</style></head><body>
<h1>{{ title }}</h1>
<p>{{ lead }}</p>
{% for subject, verdict, advice in remarks %}<p><span class="verdict {{ verdict }}">{{ subject }} {{ verdict }}</span>
{{ advice }}</p>
{% endfor %}{% for text in words %}<p class="words">{{ text }}</p>{% endfor %}
{% for name, image, note in opening %}<h2>{{ name }}</h2><img alt="{{ name }}" src="data:image/png;base64,{{ image }}">
{% if note %}<p class="note">{{ note }}</p>{% endif %}{% endfor %}
{% for table in tables %}<h2>{{ table.title }}</h2>
<table{{ ' class=text' if table.is_text }}><tr>{% for name in table.header %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for cell in row %}<td{{ ' class=' ~ cell if cell in ("yes", "no") }}>{{ cell }}</td>
{% endfor %}</tr>{% endfor %}</table>
{% if table.note %}<p class="note">{{ table.note }}</p>{% endif %}{% endfor %}
{% for name, image, note in images %}<h2>{{ name }}</h2><img alt="{{ name }}" src="data:image/png;base64,{{ image }}">
{% if note %}<p class="note">{{ note }}</p>{% endif %}{% endfor %}
<h2>Data and settings</h2><pre>{{ appendix }}</pre>
</body></html>
"""


@dataclass(frozen=True)
class ReportTable:
    """One table of a report page.

    Attributes:
        title: heading above the table.
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
class ReportPage:
    """Contents of a report page, in the order in which they are shown.

    Attributes:
        title: title of the window and heading of the page.
        lead: sentence below the heading.
        verdict: judgement shown in colour; its string is the CSS class of that colour.
        advice: sentence next to the verdict.
        tables: tables in the order of the page.
        figures: Matplotlib figures by heading.
        appendix: plain text at the end of the page, such as settings.
        subject: the quantity that the verdict judges.
        others: pages whose verdicts, tables, figures and appendices are appended to this one.
        words: paragraphs in plain language below the verdict.
        notes: captions below figures, by heading.
        opening: number of figures shown before the tables.
    """

    title: str
    lead: str
    verdict: Verdict
    advice: str
    tables: tuple[ReportTable, ...] = ()
    figures: dict[str, Figure] = field(default_factory=dict)
    appendix: str = ""
    subject: str = "log Z"
    others: tuple[ReportPage, ...] = ()
    words: tuple[str, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    opening: int = 0

    def to_html(self) -> str:
        """Render the page as one HTML document with its figures embedded as PNG."""
        environment = jinja2.Environment(autoescape=True)
        pages = (self, *self.others)
        images = [
            (name, figure_to_base64(figure), page.notes.get(name))
            for page in pages
            for name, figure in page.figures.items()
        ]
        return environment.from_string(_PAGE).render(
            title=self.title,
            lead=self.lead,
            remarks=[(page.subject, page.verdict, page.advice) for page in pages],
            words=[text for page in pages for text in page.words],
            tables=[table for page in pages for table in page.tables],
            opening=images[: self.opening],
            images=images[self.opening :],
            appendix="\n\n".join(page.appendix for page in pages),
        )


def figure_to_base64(figure: Figure) -> str:
    """Encode a figure as PNG in base64, as HTML pages embed it.

    Args:
        figure: Matplotlib figure, drawn at 110 dots per inch.

    >>> from matplotlib.figure import Figure
    >>> figure_to_base64(Figure(figsize=(1, 1)))[:11]
    'iVBORw0KGgo'
    """
    return base64.b64encode(figure_to_png(figure, dpi=110)).decode("ascii")


def figure_to_png(figure: Figure, *, dpi: int = 120) -> bytes:
    """The content of a PNG file of a figure, made in memory.

    Args:
        figure: Matplotlib figure.
        dpi: dots per inch.

    >>> from matplotlib.figure import Figure
    >>> figure_to_png(Figure(figsize=(1, 1)))[1:4]
    b'PNG'
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()
