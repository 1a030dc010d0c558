"""The report page of a run: one self-contained HTML file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jinja2

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>
 body { font: 16px/1.5 system-ui, sans-serif; color: #22303c; max-width: 60rem; margin: 2.5rem auto; padding: 0 1rem; }
 h1 { font-weight: 600; margin-bottom: .2rem; } h2 { font-weight: 600; margin-top: 2.2rem; }
 .verdict { display: inline-block; padding: .15rem .6rem; border-radius: .4rem; color: white; }
 .reliable { background: #2a7f62; } .doubtful { background: #c98a1b; } .unreliable { background: #b3364a; }
 .unknown { background: #5b5b6b; }
 table { border-collapse: collapse; margin: .8rem 0; } td, th { padding: .3rem .9rem; text-align: right;
 border-bottom: 1px solid #dde3e8; } td:first-child, th:first-child { text-align: left; }
 img { max-width: 100%; } p.note { color: #5b6b79; font-size: .92rem; } pre { background: #f4f6f8; padding: .8rem;
 overflow-x: auto; font-size: .85rem; }
</style></head><body>
<h1>{{ title }}</h1>
<p>{{ lead }}</p>
<p><span class="verdict {{ verdict }}">log Z {{ verdict }}</span> {{ advice }}</p>
{% for table in tables %}<h2>{{ table.title }}</h2>
<table><tr>{% for name in table.header %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table>
{% if table.note %}<p class="note">{{ table.note }}</p>{% endif %}{% endfor %}
{% for name, image in images %}<h2>{{ name }}</h2><img alt="{{ name }}" src="data:image/png;base64,{{ image }}">{% endfor %}
<h2>Data and settings</h2><pre>{{ appendix }}</pre>
</body></html>
"""


@dataclass(frozen=True)
class ReportTable:
    """A table of the page: title, header, rows of text, and a note below."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class ReportPage:
    """What a report page shows.

    Attributes:
        title: of the page.
        lead: the first sentence.
        verdict: "reliable", "doubtful", "unreliable" or "unknown".
        advice: beside the verdict.
        tables: in order.
        figures: by heading.
        appendix: plain text at the end.
    """

    title: str
    lead: str
    verdict: str
    advice: str
    tables: tuple[ReportTable, ...] = ()
    figures: dict[str, Figure] = field(default_factory=dict)
    appendix: str = ""

    def to_html(self) -> str:
        """The page as one HTML text with its pictures inside."""
        environment = jinja2.Environment(autoescape=True)
        images = [(name, figure_to_base64(figure)) for name, figure in self.figures.items()]
        values = {name: getattr(self, name) for name in ("title", "lead", "verdict", "advice", "tables", "appendix")}
        return environment.from_string(_PAGE).render(images=images, **values)


def figure_to_base64(figure: Figure) -> str:
    """A figure as PNG in base64."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return base64.b64encode(stream.getvalue()).decode("ascii")
