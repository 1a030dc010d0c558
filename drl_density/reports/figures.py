"""Figures as text and bytes: SVG that follows the colours of a page, and PNG."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from drl_density.plots import DATA_COLOR, GRAY, INK, PAPER, SAMPLE_COLOR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLES = {INK: "ink", "#000000": "ink", GRAY: "gray", DATA_COLOR: "data", SAMPLE_COLOR: "model", PAPER: "back"}
"""Colours of figures, by the name of the variable of the page that takes their place."""
_DOTS = 130
"""Dots per inch of the parts that are pictures: sharp on a telephone, small enough for a page below 1 MB."""


_PIXELS = 1.45
"""Pixels of a page for one point of a figure at most: type of 9 points is then 13 pixels high."""


def figure_to_svg(figure: Figure, *, name: str) -> str:
    """A figure as an SVG element for an HTML page, with the variables of the page in place of its colours.

    Text stays text, so it is sharp at every size. The same figure and name give the same text.

    Args:
        figure: Matplotlib figure of any size.
        name: prefix of the identifiers inside, which has to be another one for each figure of a page.

    >>> from drl_density.plots import new_axes
    >>> figure_to_svg(new_axes().figure, name="first")[:4]
    '<svg'
    """
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", dpi=_DOTS, transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Inside HTML no names of XML are needed.
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    for color, variable in _VARIABLES.items():
        text = text.replace(f": {color}", f": var(--{variable})")
    text = re.sub(r"font: ([^;\"']*?)([\d.]+px)[^;\"]*", r"font: \1\2 system-ui, sans-serif", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    # The page gives the width up to this one, so that text has one size in all figures; the height follows from the box.
    widest = _PIXELS * 72 * figure.get_figwidth()
    text = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", text)
    return re.sub(r'^<svg([^>]*?) width="[^"]*"', rf'<svg\1 style="max-width: {widest:.0f}px"', text)


def figure_to_png(figure: Figure, *, dpi: int = 120) -> bytes:
    """The content of a PNG file of a figure, made in memory.

    Args:
        figure: Matplotlib figure of any size.
        dpi: resolution in dots per inch.

    >>> from drl_density.plots import new_axes
    >>> figure_to_png(new_axes().figure)[1:4]
    b'PNG'
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()
