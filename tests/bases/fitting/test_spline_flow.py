"""Fits of spline flows: towards a known density, seeds, copies, early endings, divergence, sizes by time."""

import dataclasses
import math

import pytest
import torch

from drl_density.bases import SplineFlowSettings
from drl_density.bases.fitting import FlowPlan, affordable_flow, fit_spline_flow
from drl_density.bases.fitting.spline_flow import LEAST_ROWS
from drl_density.errors import NumericalError
from drl_density.testing import seeded_generator

SMALL = FlowPlan(
    SplineFlowSettings(2, num_transforms=2, width=16),
    num_steps=40,
    batch_size=64,
    dropout=0.0,
    averaging=0.9,
    num_scores=8,
)


def ring(count, seed):
    """Rows near a circle of radius 2, far from Gaussian, and their exact log density."""
    generator = seeded_generator(seed)
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    radius = 2 + 0.3 * torch.randn(count, generator=generator)
    rows = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    # The radius is normal up to the share of 1e-11 beyond 0.
    log_density = torch.distributions.Normal(2.0, 0.3).log_prob(radius) - (2 * math.pi * radius).log()
    return rows, log_density


def test_it_comes_close_to_a_density_far_from_gaussian():
    rows, _ = ring(4000, 0)
    fresh, truth = ring(4000, 1)
    plan = dataclasses.replace(SMALL, settings=SplineFlowSettings(2, num_transforms=3, width=32), num_steps=400)
    fit = fit_spline_flow(rows[None], ring(500, 2)[0], plan=plan, generator=seeded_generator(3))
    gap = float((truth - fit.flow.log_prob(fresh)).mean())
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(2), rows.T.cov())
    # The Gaussian is 0.7 nats off; 0.1 leaves room for the mass between the ends of the ring's angle.
    assert gap < 0.1 < float((truth - gaussian.log_prob(fresh)).mean())
    assert fit.log_likelihood == pytest.approx(float(fit.log_densities.mean()))


def test_equal_seeds_give_equal_bits_and_nothing_global_changes():
    rows, _ = ring(300, 4)
    plan = dataclasses.replace(SMALL, dropout=0.3, num_steps=6)
    before = torch.get_rng_state()
    one, two, other = (
        fit_spline_flow(rows[None], rows[:50], plan=plan, generator=seeded_generator(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert torch.equal(one.log_densities, two.log_densities)
    assert not torch.equal(one.log_densities, other.log_densities)


def test_the_best_weights_are_kept_and_are_fixed():
    """Fitted without dropout to 40 rows, a flow soon scores worse on others."""
    rows, fresh = ring(40, 7)[0], ring(200, 8)[0]
    plan = dataclasses.replace(SMALL, num_steps=400, learning_rate=0.02, num_scores=40, patience=0.2)
    scores = {}
    fit = fit_spline_flow(rows[None], fresh, plan=plan, on_score=scores.__setitem__, generator=seeded_generator(9))
    assert fit.ending == "patience"
    assert fit.best_step < fit.num_steps < 400
    assert fit.best_step == max(scores, key=scores.__getitem__)
    assert fit.log_likelihood == pytest.approx(max(scores.values()), abs=1e-6)
    assert not any(weight.requires_grad for weight in fit.flow.weights())


def test_every_pass_takes_a_copy():
    """Copies that differ by a shift are both seen: the fitted mean lies between them."""
    rows, _ = ring(400, 10)
    copies = torch.stack([rows - 0.5, rows + 0.5])
    plan = dataclasses.replace(SMALL, num_steps=200)
    fit = fit_spline_flow(copies, copies.flatten(0, 1), plan=plan, generator=seeded_generator(11))
    alone = fit_spline_flow(copies[:1], copies.flatten(0, 1), plan=plan, generator=seeded_generator(11))
    assert fit.log_likelihood > alone.log_likelihood


def test_a_time_ends_the_fit():
    rows, _ = ring(300, 12)
    plan = dataclasses.replace(SMALL, num_steps=100_000, num_scores=50_000)
    fit = fit_spline_flow(rows[None], rows[:50], plan=plan, max_seconds=0.5, generator=seeded_generator(13))
    assert fit.ending == "time"
    assert 0 < fit.num_steps < 100_000
    at_once = fit_spline_flow(rows[None], rows[:50], plan=plan, max_seconds=1e-9, generator=seeded_generator(13))
    assert (at_once.num_steps, at_once.best_step, at_once.ending) == (1, 1, "time")


def test_a_fit_that_diverges_keeps_what_it_had(monkeypatch):
    rows, _ = ring(300, 14)
    _spoil(monkeypatch, after=20)
    fit = fit_spline_flow(rows[None], rows[:50], plan=SMALL, generator=seeded_generator(15))
    assert (fit.ending, fit.num_steps, fit.best_step) == ("divergence", 20, 20)
    assert bool(fit.log_densities.isfinite().all())
    assert math.isfinite(fit.log_likelihood)


def test_a_fit_that_diverges_at_once_is_an_error(monkeypatch):
    rows, _ = ring(300, 14)
    _spoil(monkeypatch, after=2)
    with pytest.raises(NumericalError, match="no score: the loss or the score was not finite after 2 steps; .*rate"):
        fit_spline_flow(rows[None], rows[:50], plan=SMALL, generator=seeded_generator(15))


def _spoil(monkeypatch, *, after):
    """Make the loss infinite after some steps."""
    from drl_density.bases import SplineFlow

    plain, count = SplineFlow.log_prob_under_dropout, []

    def spoiled(self, x, share, *, generator=None):
        count.append(1)
        return plain(self, x, share, generator=generator) * (math.inf if len(count) > after else 1.0)

    monkeypatch.setattr(SplineFlow, "log_prob_under_dropout", spoiled)


def test_it_works_inside_inference_mode():
    rows, _ = ring(100, 16)
    with torch.inference_mode():
        fit = fit_spline_flow(rows[None] * 1.0, rows[:50], plan=dataclasses.replace(SMALL, num_steps=3))
    assert fit.num_steps == 3


@pytest.mark.parametrize(
    ("copies", "validation", "message"),
    [
        (torch.zeros(4, 2), torch.zeros(3, 2), r"expected copies \(c, n, 2\)"),
        (torch.zeros(1, 4, 3), torch.zeros(3, 3), r"expected copies \(c, n, 2\)"),
        (torch.zeros(1, 4, 2), torch.zeros(0, 2), r"expected copies \(c, n, 2\)"),
        (torch.full((1, 4, 2), math.nan), torch.zeros(3, 2), "finite rows: complete missing values first"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(copies, validation, message):
    with pytest.raises(ValueError, match=message):
        fit_spline_flow(copies, validation, plan=SMALL)


def test_no_flow_is_begun_for_few_rows_one_column_or_little_time():
    assert affordable_flow(LEAST_ROWS - 1, 5, 1e9) == (None, "no flow: 2,999 rows are fewer than 3,000")
    assert affordable_flow(LEAST_ROWS, 1, 1e9).plan is None
    plan, reason = affordable_flow(LEAST_ROWS, 5, 0.1)
    assert plan is None
    assert reason.startswith("no flow: the smallest takes")
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


@pytest.mark.parametrize("is_timed", [False, True])
def test_a_flow_that_sees_each_row_a_few_times_has_no_dropout(is_timed):
    plans = [affordable_flow(34_000, 9, seconds, is_timed=is_timed).plan for seconds in (30, 120)]
    assert [plan.dropout for plan in plans] == [0.0, FlowPlan.dropout]


def test_a_fit_that_the_clock_ends_is_planned_with_the_most_steps():
    plan, reason = affordable_flow(20_000, 10, 60, is_timed=True)
    assert plan.num_steps == affordable_flow(20_000, 10, 1e6).plan.num_steps == 10_000
    assert plan.settings == affordable_flow(20_000, 10, 60).plan.settings
    assert "at most 10,000 steps, 60 s" in reason
    # What cannot be fitted in time is not begun.
    assert affordable_flow(20_000, 10, 0.1, is_timed=True).plan is None


def test_a_fit_that_the_clock_ends_has_its_last_score_at_the_end():
    """The learning rate has fallen to nearly zero by then, and the scores are spread over the time that there was."""
    rows, _ = ring(300, 16)
    scores = {}
    plan = dataclasses.replace(SMALL, num_steps=100_000, num_scores=5, patience=1.0)
    fit = fit_spline_flow(
        rows[None], rows[:50], plan=plan, max_seconds=0.3, on_score=scores.__setitem__, generator=seeded_generator(17)
    )
    assert 2 <= len(scores) <= 6
    assert max(scores) == fit.num_steps


def test_settings_are_checked():
    with pytest.raises(ValueError, match="dropout"):
        dataclasses.replace(SMALL, dropout=1.0)
