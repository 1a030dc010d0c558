"""Checks with their answers, and what no check can see."""

import drl_density as drl
from drl_density.density.evaluation.page.checks import checks_table, not_checked


def test_checks_of_a_density_that_is_its_reference(report):
    """Every estimate is 0 without an error, so distances have no errors to be counted in."""
    exact = report.tree.copy(deep=True)
    for name in ("value", "standard_error"):
        exact["estimates"][name].values[:] = 0.0
    exact.attrs |= {"log_z": 0.0}
    checks = checks_table(drl.LikelihoodReport(exact))
    assert "0.000 nats apart, 0.0 standard errors" in {row[1] for row in checks.rows}


def test_a_check_that_fails_says_what_to_do(report):
    broken = report.tree.copy(deep=True)
    broken.attrs |= {"overlap": 0.001}
    (row,) = (row for row in checks_table(drl.LikelihoodReport(broken)).rows if "overlap" in row[0])
    assert row[1:] == ("overlap 0.00 of 1", "no", "more levels")


def test_what_was_not_checked_depends_on_the_report(report):
    alone, beside = not_checked(report), not_checked(report, has_long_chains=True)
    assert set(alone) - set(beside) == {text for text in alone if "drl-density diagnose" in text}
    assert len(alone) == len(beside) + 1
    noiseless = report.tree.copy(deep=True)
    noiseless.attrs |= {"level_noise": 0.0}
    assert not any("A density without noise" in text for text in not_checked(drl.LikelihoodReport(noiseless)))
    assert any("A density without noise" in text for text in alone)
