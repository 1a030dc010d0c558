"""Figures as SVG with the colours of the page, and as PNG."""

import re

import numpy as np

from drl_density.plots import DATA_COLOR, SAMPLE_COLOR, new_axes
from drl_density.reports.figures import figure_to_png, figure_to_svg


def drawn():
    axes = new_axes()
    axes.plot([0, 1], color=DATA_COLOR, label="<data>")
    axes.scatter(np.arange(3), np.arange(3), color=SAMPLE_COLOR)
    axes.set_title("a title")
    axes.legend()
    return axes.figure


def test_svg_has_the_variables_of_the_page_and_its_text_as_text():
    text = figure_to_svg(drawn(), name="f1")
    assert text.startswith("<svg")
    assert text.endswith("</svg>")
    assert "var(--data)" in text
    assert "var(--model)" in text
    assert DATA_COLOR not in text
    assert ">a title</text>" in text
    assert "&lt;data&gt;" in text
    assert "http" not in text
    assert not re.search(r"<svg[^>]* (height|width)=", text)
    assert "max-width: 438px" in text  # 4.2 inches of 72 points, 1.45 pixels each


def test_identifiers_of_two_figures_differ_and_are_found():
    first, second = (figure_to_svg(drawn(), name=name) for name in ("f1", "f2"))
    ids = [set(re.findall(r'\bid="([^"]*)"', text)) for text in (first, second)]
    assert not ids[0] & ids[1]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', first))
    assert used
    assert used <= ids[0]


def test_the_same_figure_gives_the_same_text():
    assert figure_to_svg(drawn(), name="f1") == figure_to_svg(drawn(), name="f1")


def test_png():
    assert figure_to_png(drawn()).startswith(b"\x89PNG\r\n")
    assert len(figure_to_png(drawn(), dpi=200)) > len(figure_to_png(drawn(), dpi=50))
