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
 .unknown { background: #5b5b6b; } .stable { background: #2a7f62; } .slow { background: #c98a1b; }
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
    """A table of the page: title, header, rows of text, and a note below; ``is_text`` for words in place of figures."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class ReportPage:
    """What a report page shows.

    Attributes:
        title: of the page.
        lead: the first sentence.
        verdict: shown as its string, which is also the CSS class of its colour.
        advice: beside the verdict.
        subject: of the verdict.
        words: paragraphs for a reader who is no expert, below the verdict.
        tables: in order.
        figures: by heading; ``opening`` of them stand before the tables.
        notes: below figures, by heading.
        opening: number of figures before the tables.
        appendix: plain text at the end.
        others: pages whose verdicts, tables, figures and appendices follow on this one.
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
        """The page as one HTML text with its pictures inside."""
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
    """A figure as PNG in base64."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return base64.b64encode(stream.getvalue()).decode("ascii")
