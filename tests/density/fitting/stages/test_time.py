"""Ends of stages under a time limit."""

from drl_density.density.fitting.stages import Budget


def test_without_a_limit_no_stage_ends():
    assert Budget().ends(2) == (None, None)


def test_refinements_of_later_members_keep_their_time():
    budget = Budget(deadline=100.0, refining_seconds=10.0)
    assert budget.ends(0) == (90.0, 100.0)
    assert budget.ends(2) == (70.0, 80.0)
    assert Budget(deadline=100.0).ends(3) == (100.0, 100.0)
