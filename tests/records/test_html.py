"""Short HTML for notebooks: figures, verdicts, nothing unescaped."""

import math

import pytest
import torch

from drl_density.records.html import ends_in_words, html_card
from drl_density.weights import judge_estimate


def test_a_card_holds_its_title_its_figures_and_its_verdict():
    card = html_card("A title", {"log Z": "1.5", "rows": "3"}, verdict="reliable", advice="All checks hold.")
    places = [card.index(part) for part in ("A title", "reliable", "All checks hold.", ">log Z<", ">1.5<", ">rows<", ">3<")]
    assert places == sorted(places)


def test_text_is_escaped():
    assert "<i>" not in html_card("<i>", {"<i>": "<i>"}, verdict="<i>", advice="<i>")


def test_a_card_without_a_verdict():
    assert "span" not in html_card("A title", {})


@pytest.mark.parametrize("lower", [-math.inf, math.nan])
def test_an_interval_without_an_end_is_not_known(lower):
    assert ends_in_words(lower, 1.0) == "not known"
    assert ends_in_words(-1.25, 1.0, digits=1) == "-1.2 to 1.0"


def test_an_estimate_shows_its_error_and_its_bias():
    card = judge_estimate(torch.zeros(4, 50), bias="lower")._repr_html_()
    assert "0.0000 \u00b1 0.0000" in card
    assert ">lower<" in card
    assert ">doubtful<" in card
