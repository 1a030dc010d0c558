"""Differences of log evidence and model probabilities, from records made up."""

import math

import pytest

from drl_density.errors import Verdict
from drl_density.model_evidence.comparison import Decision, EvidenceDifference, rank
from tests.model_evidence.made_up import evidence_of, flat

EQUAL = {"a": 0.5, "b": 0.5}


def test_half_widths_of_independent_estimates_add_as_squares():
    difference = EvidenceDifference(evidence_of(-1.0, half_width=0.3), evidence_of(-3.0, half_width=0.4))
    assert difference.log_bayes_factor == 2
    assert difference.interval() == pytest.approx((1.5, 2.5))
    assert difference.interval(0.475) == pytest.approx((1.75, 2.25))
    assert difference.decision is Decision.DECIDED
    assert str(difference) == "log Bayes factor 2.0000 in [1.5000, 2.5000], decided"


def test_an_interval_that_holds_zero_decides_nothing():
    one, other = evidence_of(-1.0, half_width=0.3), evidence_of(-1.4, half_width=0.4)
    assert EvidenceDifference(one, other).decision is Decision.UNDECIDED
    assert EvidenceDifference(other, one).decision is Decision.UNDECIDED


@pytest.mark.parametrize("verdict", [Verdict.UNRELIABLE, Verdict.UNKNOWN, Verdict.IMPROPER])
def test_an_unusable_member_makes_the_difference_unreliable(verdict):
    one, other = evidence_of(-1.0, half_width=0.3), evidence_of(-9.0, half_width=0.4, verdict=verdict)
    for difference in (EvidenceDifference(one, other), EvidenceDifference(other, one)):
        assert difference.decision is Decision.UNRELIABLE
        lower, upper = difference.interval()
        assert upper - lower == pytest.approx(2 * 0.7)  # ends at their worst
    doubtful = evidence_of(-9.0, half_width=0.4, verdict=Verdict.DOUBTFUL)
    assert EvidenceDifference(one, doubtful).decision is Decision.DECIDED


def test_improper_priors_compare_only_where_they_are_shared():
    proper, improper = evidence_of(-1.0), evidence_of(-9.0, flat)
    assert EvidenceDifference(proper, improper).decision is Decision.INCOMPARABLE
    assert EvidenceDifference(improper, evidence_of(-3.0, flat)).decision is Decision.DECIDED
    found = rank({"a": proper, "b": improper}, EQUAL)
    assert math.isnan(found["a"].probability)
    assert math.isnan(found["a"].probability_lower)


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_a_model_without_a_number_comes_last_and_leaves_no_probabilities(names):
    evidence = {"a": evidence_of(math.nan, verdict=Verdict.UNKNOWN), "b": evidence_of(-2.0, half_width=math.inf)}
    found = rank({name: evidence[name] for name in names}, EQUAL)
    assert [model.name for model in found.models] == ["b", "a"]
    for model in found.models:
        assert math.isnan(model.probability)
        assert math.isnan(model.probability_lower)
        assert math.isnan(model.probability_upper)


def test_models_come_in_order_with_probabilities_and_their_range():
    found = rank({"a": evidence_of(-3.0), "b": evidence_of(-2.0)}, {"a": 0.8, "b": 0.2})
    assert [model.name for model in found.models] == ["b", "a"]
    assert found.best is found["b"]
    odds = 4 * math.exp(-1.0)
    assert found["a"].probability == pytest.approx(odds / (1 + odds))
    low, high = (4 * math.exp(-1.0 + sign * 0.2) for sign in (-1, 1))
    assert found["a"].probability_lower == pytest.approx(low / (1 + low))
    assert found["a"].probability_upper == pytest.approx(high / (1 + high))
    assert sum(model.probability for model in found.models) == pytest.approx(1.0)
    assert found.bayes_factor("a", "b").log_bayes_factor == -1
    with pytest.raises(KeyError, match="expected one of b, a, got 'c'"):
        found["c"]


def test_an_unknown_member_leaves_every_probability_open():
    found = rank({"a": evidence_of(-3.0), "b": evidence_of(-2.0, half_width=math.inf, verdict=Verdict.UNKNOWN)}, EQUAL)
    for name in ("a", "b"):
        assert (found[name].probability_lower, found[name].probability_upper) == (0, 1)
    assert found["a"].behind.interval() == (-math.inf, math.inf)


def test_the_table_has_a_row_for_each_model():
    lines = str(rank({"line": evidence_of(-3.0), "curve": evidence_of(-2.0)}, {"line": 0.5, "curve": 0.5})).splitlines()
    assert lines[0].split() == ["model", "log", "Z", "interval", "verdict", "behind", "interval", "probability", "decision"]
    assert lines[1].startswith("curve  -2.000  [-2.100, -1.900]  reliable ")
    assert lines[1].endswith(" best")
    assert "  1.000   [0.859, 1.141]  " in lines[2]
    assert lines[2].endswith(" decided")
