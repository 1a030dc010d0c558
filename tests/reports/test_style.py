"""Colours of the page can be read by everybody, in light and in dark."""

import re

import pytest

from drl_density.errors import Verdict
from drl_density.reports.style import STYLE, TEMPLATE

LIGHT, DARK = (dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in STYLE.split("prefers-color-scheme: dark"))


def contrast(first, second):
    """Ratio of luminances, from 1 to 21, as the guidelines for accessible pages define it."""
    values = []
    for color in (first, second):
        parts = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        values.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(values) / min(values)


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(colors):
    for name in ("ink", "soft", "data", "model"):
        assert contrast(colors[name], colors["back"]) >= 4.5, name
    for name in ("ink", "soft"):
        assert contrast(colors[name], colors["raised"]) >= 4.5, name
    for name in ("good", "wary", "bad", "open"):
        assert contrast("#ffffff", colors[name]) >= 4.5, name
    assert contrast(colors["gray"], colors["back"]) >= 3


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_a_colour(verdict):
    assert re.search(rf"\.{verdict}\b[^{{}}]*{{ background: var\(--(good|wary|bad|open)\)", STYLE)


def test_the_page_is_made_for_telephones_and_needs_no_script():
    assert 'name="viewport"' in TEMPLATE
    assert "<script" not in TEMPLATE
    assert "http" not in TEMPLATE + STYLE
