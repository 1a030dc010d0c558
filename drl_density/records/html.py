"""Short HTML of results, as notebooks show them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

_CELL = "padding:.15em 1em .15em 0;text-align:left;vertical-align:top;border:0"
_CARD = "border:1px solid #8d99a6;border-radius:.5em;padding:.5em .8em;display:inline-block;max-width:46em"
_MARK = "border-radius:1em;padding:.05em .6em;color:#fff;background:"
_COLORS = {"reliable": "#0b5f95", "stable": "#0b5f95", "doubtful": "#8a5a00", "slow": "#8a5a00"}
_COLORS |= {"unreliable": "#a63c00", "drifting": "#a63c00"}
_OTHER = "#55606b"


def html_card(title: str, figures: Mapping[str, str], *, verdict: str = "", advice: str = "") -> str:
    """A small frame with a title, a verdict in colour and in words, and figures by name; colours of text are the reader's.

    Args:
        title: first line.
        figures: text of every figure by its name.
        verdict: judgement; none where it is empty.
        advice: reason of the verdict.

    >>> html_card("log Z", {"point": "1.0"}, verdict="reliable")[:4]
    '<div'
    """
    mark = f' <span style="{_MARK}{_COLORS.get(verdict, _OTHER)}">{escape(verdict)}</span>' if verdict else ""
    rows = "".join(
        f'<tr style="background:none"><td style="{_CELL};opacity:.75">{escape(name)}</td>'
        f'<td style="{_CELL}">{escape(value)}</td></tr>'
        for name, value in figures.items()
    )
    reason = f'<div style="opacity:.85">{escape(advice)}</div>' if advice else ""
    return (
        f'<div style="{_CARD}"><div><b>{escape(title)}</b>{mark}</div>{reason}'
        f'<table style="border-collapse:collapse;margin:.3em 0 0"><tbody>{rows}</tbody></table></div>'
    )


def ends_in_words(lower: float, upper: float, *, digits: int = 3) -> str:
    """An interval as text; "not known" where an end is infinite or undefined.

    Args:
        lower: lower end.
        upper: upper end.
        digits: digits behind the point.

    >>> ends_in_words(-0.0001, 1.5), ends_in_words(float("-inf"), 2.0)
    ('0.000 to 1.500', 'not known')
    """
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return "not known"
    return f"{lower:z.{digits}f} to {upper:z.{digits}f}"
