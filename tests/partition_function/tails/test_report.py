"""The record of tails in words."""

import math

from drl_density.partition_function.tails.report import Integrability, Tail, TailReport


def tail(label, exponent, *, is_stretch=True, missing=0.0):
    return Tail(label, is_stretch, (-1.0, exponent), 20.0, missing, 3.0)


def test_words_name_the_deciding_tail():
    slow, fast, neck = (
        tail("a", -1.5, missing=0.02),
        tail("b", -math.inf),
        tail("c", -3.0, is_stretch=False, missing=0.3),
    )
    report = TailReport(Integrability.INTEGRABLE, (slow, fast, neck), slow)
    assert str(report) == "along a, the slowest, mass beyond r falls as r^-1.5"
    assert report.missing == 0.3
    assert report.worst_reached is neck
    assert str(TailReport(Integrability.INTEGRABLE, (fast,), fast)).endswith("out to 1e+06 times the bulk")
    assert str(TailReport(Integrability.INTEGRABLE, (neck,), neck)).endswith("out to 20 standard deviations")
    assert "does not fall" in str(TailReport(Integrability.IMPROPER, (slow,), slow))
    assert "cannot be decided" in str(TailReport(Integrability.UNDECIDED, (slow,), slow))
