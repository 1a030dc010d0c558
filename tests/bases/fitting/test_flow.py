"""Fits of flows: towards a known density, seeds, copies, early endings, divergence, races."""

import dataclasses
import math
import threading

import pytest
import torch

from drl_density.bases import AutoregressiveFlow, AutoregressiveFlowSettings
from drl_density.bases.fitting import FlowPlan, fit_flow, flow as flow_module, race_flows
from drl_density.bases.fitting.flow import MOST_RACE_SECONDS, RACE_SHARE
from drl_density.errors import NumericalError
from drl_density.testing import seeded_generator

SMALL = FlowPlan(
    AutoregressiveFlowSettings(2, num_transforms=2, width=16),
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
    plan = dataclasses.replace(SMALL, settings=AutoregressiveFlowSettings(2, num_transforms=3, width=32), num_steps=400)
    fit = fit_flow(rows[None], ring(500, 2)[0], plan=plan, generator=seeded_generator(3))
    gap = float((truth - fit.flow.log_prob(fresh)).mean())
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(2), rows.T.cov())
    # The Gaussian is 0.7 nats off; 0.1 leaves room for the mass between the ends of the ring's angle.
    assert gap < 0.1 < float((truth - gaussian.log_prob(fresh)).mean())
    assert fit.log_likelihood == pytest.approx(float(fit.log_densities.mean()))


def test_equal_seeds_give_equal_bits_and_nothing_global_changes():
    rows, _ = ring(300, 4)
    plan = dataclasses.replace(SMALL, num_steps=6)
    before = torch.get_rng_state()
    one, two, other = (
        fit_flow(rows[None], rows[:50], plan=plan, generator=seeded_generator(seed)) for seed in (5, 5, 6)
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
    fit = fit_flow(rows[None], fresh, plan=plan, on_score=scores.__setitem__, generator=seeded_generator(9))
    assert fit.record.ending == "patience"
    assert fit.record.best_step < fit.record.num_steps < 400
    assert fit.record.best_step == max(scores, key=scores.__getitem__)
    assert fit.log_likelihood == pytest.approx(max(scores.values()), abs=1e-6)
    assert not any(weight.requires_grad for weight in fit.flow.weights())


def test_dropout_begins_where_the_score_has_stopped_rising(monkeypatch):
    """Fitted to 40 rows, a flow soon scores worse on others. With dropout from the best weights it scores better."""
    shares, plain = [], AutoregressiveFlow.log_prob_under_dropout

    def watched(self, x, share, *, generator=None):
        shares.append(share)
        return plain(self, x, share, generator=generator)

    monkeypatch.setattr(AutoregressiveFlow, "log_prob_under_dropout", watched)
    rows, fresh = ring(40, 7)[0], ring(200, 8)[0]
    plan = dataclasses.replace(SMALL, num_steps=160, learning_rate=0.02, num_scores=40, dropout=0.3)
    scores = {}
    fits = [
        fit_flow(rows[None], fresh, plan=each, on_score=on_score, generator=seeded_generator(9))
        for each, on_score in ((dataclasses.replace(plan, dropout=0.0), None), (plan, scores.__setitem__))
    ]
    first = shares[fits[0].record.num_steps :]
    begun = first.index(0.3)
    assert set(first[:begun]) == {0.0}
    assert set(first[begun:]) == {0.3}
    best = max((step for step in scores if step <= begun), key=scores.__getitem__)
    assert begun > best
    assert fits[1].log_likelihood > fits[0].log_likelihood
    assert fits[1].record.best_step > begun


def test_every_pass_takes_a_copy():
    """Copies that differ by a shift are both seen: the fitted mean lies between them."""
    rows, _ = ring(400, 10)
    copies = torch.stack([rows - 0.5, rows + 0.5])
    plan = dataclasses.replace(SMALL, num_steps=200)
    fit = fit_flow(copies, copies.flatten(0, 1), plan=plan, generator=seeded_generator(11))
    alone = fit_flow(copies[:1], copies.flatten(0, 1), plan=plan, generator=seeded_generator(11))
    assert fit.log_likelihood > alone.log_likelihood


def test_a_time_ends_the_fit():
    rows, _ = ring(300, 12)
    plan = dataclasses.replace(SMALL, num_steps=100_000, num_scores=50_000)
    fit = fit_flow(rows[None], rows[:50], plan=plan, max_seconds=0.5, generator=seeded_generator(13))
    assert fit.record.ending == "time"
    assert 0 < fit.record.num_steps < 100_000
    at_once = fit_flow(rows[None], rows[:50], plan=plan, max_seconds=1e-9, generator=seeded_generator(13))
    assert (at_once.record.num_steps, at_once.record.best_step, at_once.record.ending) == (1, 1, "time")


def test_a_fit_that_diverges_keeps_what_it_had(monkeypatch):
    rows, _ = ring(300, 14)
    _spoil(monkeypatch, after=20)
    fit = fit_flow(rows[None], rows[:50], plan=SMALL, generator=seeded_generator(15))
    assert (fit.record.ending, fit.record.num_steps, fit.record.best_step) == ("divergence", 20, 20)
    assert bool(fit.log_densities.isfinite().all())
    assert math.isfinite(fit.log_likelihood)


def test_a_fit_that_diverges_at_once_is_an_error(monkeypatch):
    rows, _ = ring(300, 14)
    _spoil(monkeypatch, after=2)
    with pytest.raises(NumericalError, match="no score: the loss or the score was not finite after 2 steps; .*rate"):
        fit_flow(rows[None], rows[:50], plan=SMALL, generator=seeded_generator(15))


def _spoil(monkeypatch, *, after):
    """Make the loss infinite after some steps."""
    plain, count = AutoregressiveFlow.log_prob_under_dropout, []

    def spoiled(self, x, share, *, generator=None):
        count.append(1)
        return plain(self, x, share, generator=generator) * (math.inf if len(count) > after else 1.0)

    monkeypatch.setattr(AutoregressiveFlow, "log_prob_under_dropout", spoiled)


def test_it_works_inside_inference_mode():
    rows, _ = ring(100, 16)
    with torch.inference_mode():
        fit = fit_flow(rows[None] * 1.0, rows[:50], plan=dataclasses.replace(SMALL, num_steps=3))
    assert fit.record.num_steps == 3


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
        fit_flow(copies, validation, plan=SMALL)


def test_a_fit_that_the_clock_ends_has_its_last_score_at_the_end():
    """The learning rate has fallen to nearly zero by then, and the scores are spread over the time that there was."""
    rows, _ = ring(300, 16)
    scores = {}
    plan = dataclasses.replace(SMALL, num_steps=100_000, num_scores=5, patience=1.0)
    fit = fit_flow(
        rows[None], rows[:50], plan=plan, max_seconds=0.3, on_score=scores.__setitem__, generator=seeded_generator(17)
    )
    assert 2 <= len(scores) <= 6
    assert max(scores) == fit.record.num_steps


RACERS = {
    kind: dataclasses.replace(SMALL, settings=AutoregressiveFlowSettings(2, 2, width=16, elementwise=kind), num_steps=80)
    for kind in ("affine", "spline")
}


SHORT_RACERS = {kind: dataclasses.replace(plan, num_steps=20) for kind, plan in RACERS.items()}


def race(rows, *, seconds, plans=RACERS, is_timed=False, lanes=1):
    times = {"seconds": seconds, "is_timed": is_timed, "lanes": lanes}
    return race_flows(rows[None], ring(200, 20)[0], plans=plans, **times, generator=seeded_generator(21))


def test_the_leader_of_a_race_gets_the_rest():
    """Affine maps cannot bend the density of one column, and a ring of two has a conditional of two modes."""
    rows, _ = ring(400, 18)
    seconds = 80 * RACERS["spline"].seconds_per_step
    flows, missing = race(rows, seconds=seconds)
    assert missing == {}
    assert (flows["affine"].record.ending, flows["spline"].record.ending) == ("pause", "steps")
    short = math.ceil(RACE_SHARE * seconds / RACERS["affine"].seconds_per_step)
    assert flows["affine"].record.num_steps == short
    assert flows["spline"].log_likelihood > flows["affine"].log_likelihood
    used = sum(flow.record.num_steps * RACERS[kind].seconds_per_step for kind, flow in flows.items())
    assert used == pytest.approx(seconds, rel=0.03)
    again, _ = race(rows, seconds=seconds)
    assert torch.equal(again["spline"].log_densities, flows["spline"].log_densities)


def test_what_the_leader_leaves_is_for_others_of_its_kind_and_then_for_the_next(monkeypatch):
    monkeypatch.setattr(flow_module, "LEAST_STEPS", 20)
    monkeypatch.setattr(flow_module, "MOST_OF_A_KIND", 4)
    rows, _ = ring(400, 18)
    each = 20 * RACERS["spline"].seconds_per_step
    flows, _ = race(rows, seconds=10 * each, plans=SHORT_RACERS)
    assert list(flows) == ["affine", "spline", "spline 2", "spline 3", "spline 4"]
    assert {(flow.record.ending, flow.record.num_steps) for flow in flows.values()} == {("steps", 20)}
    assert len({flow.log_likelihood for flow in flows.values()}) == 5  # from weights of their own
    few, _ = race(rows, seconds=2.5 * each, plans=SHORT_RACERS)
    assert list(few) == ["affine", "spline", "spline 2"]
    # A flow does not depend on what is trained beside it.
    assert torch.equal(few["spline"].log_densities, flows["spline"].log_densities)


def test_further_flows_are_as_many_as_end_soon_after_their_best_score(monkeypatch):
    """Fitted to 40 rows the leader soon scores worse; the others share its rest, and none is much longer than its best."""
    monkeypatch.setattr(flow_module, "LEAST_STEPS", 1)
    rows, plan = ring(40, 7)[0], dataclasses.replace(SMALL, learning_rate=0.02, num_scores=40, patience=0.1, num_steps=400)
    flows, _ = race(rows, seconds=400 * plan.seconds_per_step, plans={"spline": plan})
    first, *others = [flow.record for flow in flows.values()]
    assert first.ending == "patience"
    left = 400 - first.num_steps
    number = min(flow_module.MOST_OF_A_KIND - 1, round(left / (flow_module.TWIN_SHARE * first.best_step)))
    assert number > 1
    assert others[0].num_steps <= math.ceil(left / number)
    assert sum(other.num_steps for other in others) > left / 2
    assert len(others) >= number


def test_a_race_by_the_clock_takes_its_time():
    rows, _ = ring(400, 18)
    plans = {kind: dataclasses.replace(plan, num_steps=100_000) for kind, plan in RACERS.items()}
    flows, _ = race(rows, seconds=0.6, plans=plans, is_timed=True)
    ended = [flow for flow in flows.values() if flow.record.ending == "time"]
    assert len(ended) == 1
    assert sum(flow.record.seconds for flow in flows.values()) < 0.6 + MOST_RACE_SECONDS


def test_flows_in_lanes_are_trained_at_the_same_time(monkeypatch):
    """The leader and another of its kind both get the time after the race, each with one thread of torch's."""
    monkeypatch.setattr(flow_module, "LEAST_STEPS", 1)
    threads, plain = set(), AutoregressiveFlow.log_prob_under_dropout

    def watched(self, x, share, *, generator=None):
        threads.add((threading.get_ident(), torch.get_num_threads()))
        return plain(self, x, share, generator=generator)

    monkeypatch.setattr(AutoregressiveFlow, "log_prob_under_dropout", watched)
    rows, _ = ring(400, 18)
    plans = {kind: dataclasses.replace(plan, num_steps=100_000) for kind, plan in RACERS.items()}
    before, seconds = torch.get_num_threads(), 1.0
    flows, missing = race(rows, seconds=seconds, plans=plans, is_timed=True, lanes=2)
    assert (missing, torch.get_num_threads()) == ({}, before)
    assert {count for _, count in threads} == {1}
    assert len({identity for identity, _ in threads}) >= 2
    leader = next(name for name in flows if name.endswith(" 2")).removesuffix(" 2")
    assert [flows[name].record.ending for name in (leader, f"{leader} 2")] == ["time", "time"]
    assert sum(flow.record.seconds for flow in flows.values()) > 1.5 * seconds


def test_lanes_change_no_flow_that_the_clock_does_not_end(monkeypatch):
    monkeypatch.setattr(flow_module, "LEAST_STEPS", 1)
    monkeypatch.setattr(flow_module, "MOST_RACE_SECONDS", 0.0)  # which the clock would end
    rows, _ = ring(400, 18)
    timed = {"seconds": 1e6, "plans": SHORT_RACERS, "is_timed": True}
    alone, beside = (race(rows, **timed, lanes=lanes)[0] for lanes in (1, 2))
    assert list(alone) == list(beside)
    assert all(torch.equal(alone[name].log_densities, beside[name].log_densities) for name in alone)


def test_an_interruption_ends_all_lanes(monkeypatch):
    home, count = threading.get_ident(), threading.active_count()
    plain = AutoregressiveFlow.log_prob_under_dropout

    def interrupted(self, x, share, *, generator=None):
        if threading.get_ident() == home:
            raise KeyboardInterrupt
        return plain(self, x, share, generator=generator)

    monkeypatch.setattr(AutoregressiveFlow, "log_prob_under_dropout", interrupted)
    rows, _ = ring(400, 18)
    plans = {kind: dataclasses.replace(plan, num_steps=100_000) for kind, plan in RACERS.items()}
    with pytest.raises(KeyboardInterrupt):
        race(rows, seconds=60.0, plans=plans, is_timed=True, lanes=2)
    assert threading.active_count() == count


def test_a_flow_of_a_race_that_diverges_leaves_the_others(monkeypatch):
    rows, _ = ring(400, 18)
    plain = AutoregressiveFlow.log_prob_under_dropout

    def spoiled(self, x, share, *, generator=None):
        factor = math.inf if self.settings.elementwise == "affine" else 1.0
        return plain(self, x, share, generator=generator) * factor

    monkeypatch.setattr(AutoregressiveFlow, "log_prob_under_dropout", spoiled)
    flows, missing = race(rows, seconds=60 * RACERS["spline"].seconds_per_step)
    assert list(flows) == ["spline"]
    assert "no score" in missing["affine"]


def test_a_single_flow_has_no_race():
    rows, _ = ring(400, 18)
    alone = {"spline": dataclasses.replace(RACERS["spline"], num_steps=30)}
    flows, _ = race(rows, seconds=1.0, plans=alone)
    assert (flows["spline"].record.ending, flows["spline"].record.num_steps) == ("steps", 30)
    assert race(rows, seconds=1.0, plans={}) == ({}, {})
