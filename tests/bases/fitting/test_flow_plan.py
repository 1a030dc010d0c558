"""Plans of flows: sizes and steps by rows, columns and time."""


import pytest

from drl_density.bases import AutoregressiveFlowSettings
from drl_density.bases.fitting import LEAST_ROWS, FlowPlan, affordable_flow
from drl_density.bases.fitting.flow_plan import SHAPES


def test_no_flow_is_begun_for_few_rows_one_column_or_little_time():
    assert affordable_flow(LEAST_ROWS - 1, 5, 1e9) == (None, "2,999 rows are fewer than 3,000")
    assert affordable_flow(LEAST_ROWS, 1, 1e9).plan is None
    plan, reason = affordable_flow(LEAST_ROWS, 5, 0.1)
    assert plan is None
    assert reason.startswith("the smallest takes")
    assert reason.endswith("0 s are allowed")


def test_more_time_gives_more_steps_and_larger_flows_within_the_time():
    plans = [affordable_flow(20_000, 10, seconds).plan for seconds in (15, 60, 150)]
    assert [plan.settings.width for plan in plans] == sorted(plan.settings.width for plan in plans)
    assert plans[0].settings.width < plans[2].settings.width
    assert all(plan.seconds <= seconds for plan, seconds in zip(plans, (15, 60, 150), strict=True))
    assert plans[1].num_steps < plans[2].num_steps
    # Passes over the rows are bounded, so a huge time does not make a small table a long fit.
    assert affordable_flow(3000, 10, 1e9).plan == affordable_flow(3000, 10, 1e6).plan


def test_the_plan_is_put_in_words():
    plan, reason = affordable_flow(20_000, 10, 60)
    assert f"{plan.num_steps:,} steps" in reason


def test_a_fit_that_the_clock_ends_is_planned_with_the_most_steps():
    plan, reason = affordable_flow(20_000, 10, 60, is_timed=True)
    assert plan.num_steps == affordable_flow(20_000, 10, 1e6).plan.num_steps == 10_000
    assert plan.settings == affordable_flow(20_000, 10, 60).plan.settings
    assert "at most 10,000 steps, 60 s" in reason
    # What cannot be fitted in time is not begun.
    assert affordable_flow(20_000, 10, 0.1, is_timed=True).plan is None


def test_settings_are_checked():
    with pytest.raises(ValueError, match="dropout"):
        FlowPlan(AutoregressiveFlowSettings(2), dropout=1.0)


def test_affine_flows_are_cheaper_and_have_more_steps():
    spline, affine = (affordable_flow(20_000, 10, 60, elementwise=kind).plan for kind in ("spline", "affine"))
    assert affine.settings.elementwise == "affine"
    assert affine.settings.width == SHAPES[0][1]
    assert affine.seconds_per_step < spline.seconds_per_step
    assert affine.num_steps > spline.num_steps
