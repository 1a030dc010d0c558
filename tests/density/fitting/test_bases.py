"""Choice of the fixed base and of the noise of level 0."""

import dataclasses
import math
from functools import partial

import pytest
import torch

import drl_density as drl
from drl_density.bases import (
    AutoregressiveFlow,
    BlendedBase,
    FactorAnalysers,
    LayeredBase,
    NoisedGaussianMixture,
    fit_stacked_mixture,
)
from drl_density.bases.fitting import Affordability, Candidate, FlowPlan, StackedMixture
from drl_density.density.fitting import bases as bases_module
from drl_density.density.fitting.bases import NO_FLOW, ReferenceTime, choose_bases, fit_gaussian
from drl_density.parallel import Workers
from drl_density.testing import seeded_generator


def test_noise_of_level_zero_is_the_widest_that_costs_nothing():
    """Nearly collinear columns need little noise, round ones take the widest; a given value is kept."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(600, 5, generator=generator, dtype=torch.float64)
    narrow = wide[:, :1] + 0.03 * wide
    chosen = {name: choose_bases(rows[:400], rows[400:]) for name, rows in (("wide", wide), ("narrow", narrow))}
    assert chosen["wide"].sigma_min == 0.1
    assert chosen["narrow"].sigma_min < 0.05
    settings = drl.FitSettings()
    resolved = {name: settings.resolve(400, (5,), bases.sigma_min) for name, bases in chosen.items()}
    assert resolved["narrow"].schedule.num_levels > resolved["wide"].schedule.num_levels
    assert drl.LogSpacedSchedule(sigma_min=0.2).resolve(5, 0.03).sigma_min == 0.2


def test_bases_are_what_they_are_called():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 4, generator=generator, dtype=torch.float64)
    rows[:250] += 4.0
    chosen = choose_bases(rows[::2], rows[1::2])
    assert list(chosen.mixtures)[0] == "gaussian"
    assert len(chosen.mixtures) == 2
    assert max(chosen.scores, key=chosen.scores.get) == list(chosen.mixtures)[1]
    assert list(choose_bases(rows[::2], rows[1::2], kind="independent").mixtures) == ["independent"]
    with pytest.raises(ValueError, match="base must be one of"):
        choose_bases(rows, rows, kind="flow")


def spiral(count):
    """Rows near a spiral in two of three columns."""
    generator = seeded_generator(0)
    angle = 1 + 11 * torch.rand(count, generator=generator, dtype=torch.float64)
    rows = torch.stack([angle * angle.cos() / 6, angle * angle.sin() / 6, torch.zeros_like(angle)], 1)
    return rows + 0.05 * torch.randn(count, 3, generator=generator, dtype=torch.float64)


def test_the_reference_is_the_best_candidate_alone(monkeypatch):
    small = drl.StackSettings((1, 5, 12), (1e-2, 1e-1), num_bags=8, num_final_bags=20)
    monkeypatch.setattr(bases_module, "fit_stacked_mixture", partial(fit_stacked_mixture, settings=small))
    rows = spiral(600)
    chosen = choose_bases(rows[:400], rows[400:], kind="reference")
    assert {"gaussian", "stack"} <= set(chosen.scores)
    assert list(chosen.mixtures) == [max(chosen.scores, key=chosen.scores.get)] == ["stack"]
    assert chosen.scores["stack"] > chosen.scores["gaussian"] + 0.3
    assert chosen.remarks == ("no flow: 400 rows are fewer than 3,000",)
    levels = drl.NoiseSchedule.log_spaced(4)
    assert chosen.over_levels(levels) == chosen.mixtures


def test_single_mixtures_are_candidates_in_more_than_three_columns_of_few_rows(monkeypatch):
    monkeypatch.setattr(bases_module, "fit_stacked_mixture", gaussian_stack)
    monkeypatch.setattr(bases_module, "NUM_COMPONENTS", (2,))
    rows = torch.randn(200, 4, generator=seeded_generator(0), dtype=torch.float64)
    for most, number in ((200, 2), (199, 0)):
        monkeypatch.setattr(bases_module, "MOST_SINGLE_ROWS", most)
        scores = choose_bases(rows, rows[:50], kind="reference").scores
        assert sum(name in scores for name in ("2 full", "2 diag")) == number


def test_a_narrow_stack_has_a_level_zero_with_less_noise_than_single_mixtures_have(monkeypatch):
    small = drl.StackSettings((1,), (1e-4,), num_bags=4, num_final_bags=4)
    monkeypatch.setattr(bases_module, "fit_stacked_mixture", partial(fit_stacked_mixture, settings=small))
    x = torch.randn(200, 1, generator=seeded_generator(0), dtype=torch.float64)
    rows = torch.cat([x, x + 0.005 * torch.randn(200, 1, generator=seeded_generator(1), dtype=torch.float64)], 1)
    assert choose_bases(rows, rows, kind="stack").sigma_min < min(bases_module.SIGMAS)


def with_scores(monkeypatch, **shifts):
    """Set the scores of the flows by name, since flows that lead would take a minute."""
    race_flows = bases_module.race_flows

    def shifted(copies, validation, **given):
        flows, missing = race_flows(copies, validation, **given)
        for name, flow in flows.items():
            flow.log_densities.add_(shifts[name.split()[0]])
        return flows, missing

    monkeypatch.setattr(bases_module, "race_flows", shifted)
    monkeypatch.setattr("drl_density.bases.fitting.flow.MOST_OF_A_KIND", 1)
    monkeypatch.setattr(bases_module, "fit_stacked_mixture", gaussian_stack)
    monkeypatch.setattr(bases_module, "affordable_flow", small_flow)


def test_a_flow_that_scores_best_carries_level_zero_alone(monkeypatch):
    """The mixture carries the noisier levels."""
    with_scores(monkeypatch, affine=-100.0, spline=100.0)
    rows = spiral(600)
    chosen = choose_bases(rows[:400], rows[400:], kind="reference", allowed=ReferenceTime(5.0))
    assert list(chosen.mixtures) == ["spline flow"]
    assert isinstance(chosen.best, AutoregressiveFlow)
    assert isinstance(chosen.noisy, NoisedGaussianMixture)
    assert "blend" not in chosen.scores
    schedule = drl.NoiseSchedule.log_spaced(4)
    base = chosen.over_levels(schedule)["spline flow"]
    assert isinstance(base, LayeredBase)
    x = rows[:5].float()
    assert torch.equal(base(x, schedule.log_snr_at(0)), chosen.best.log_prob(x))
    torch.testing.assert_close(base(x, schedule.log_snr_at(1)), chosen.noisy(x, schedule.log_snr_at(1)))


def test_a_blend_that_beats_every_candidate_carries_level_zero(monkeypatch):
    """Each flow is set to be right about other rows: the blend is chosen, and consists of both."""
    rows = spiral(600)
    is_first = torch.arange(200) < 100
    with_scores(monkeypatch, affine=torch.where(is_first, 50.0, -50.0), spline=torch.where(is_first, -50.0, 50.0))
    chosen = choose_bases(rows[:400], rows[400:], kind="reference", allowed=ReferenceTime(5.0))
    assert list(chosen.mixtures) == ["blend"]
    base = chosen.best
    assert isinstance(base, BlendedBase)
    assert [type(member) for member in base.members] == [AutoregressiveFlow] * 2
    assert base.weights.tolist() == pytest.approx([0.5, 0.5], abs=1e-3)
    assert chosen.scores["blend"] > max(score for name, score in chosen.scores.items() if name != "blend")
    assert isinstance(chosen.noisy, NoisedGaussianMixture)
    assert chosen.remarks[-1].startswith("blend of 0.500 affine flow, 0.500 spline flow: +")
    # Copies of a row are told apart from rows.
    monkeypatch.setattr(bases_module, "fit_blend", lambda *_, source: sources.append(source))
    sources, source = [], torch.arange(200) // 2
    again = choose_bases(rows[:400], rows[400:], kind="reference", allowed=ReferenceTime(5.0), source=source)
    assert "blend" not in again.scores
    assert sources == [source]


def test_a_limit_of_time_ends_flows_and_mixtures_by_the_clock_and_shortens_the_search_beside_them(monkeypatch):
    """With a limit they take as many steps as the time gives; without one these are the same everywhere."""
    searched, timed, averaged = [], [], []

    def averaging(copies, *, ridge, seconds, is_timed, generator):
        averaged.append((copies.shape[1], ridge, seconds, is_timed))
        return gaussian_stack(copies).base

    def searching(copies, *, max_seconds, generator):
        searched.append(max_seconds)
        return gaussian_stack(copies, max_seconds=max_seconds, generator=generator)

    def unaffordable(num_rows, num_columns, seconds, *, elementwise, is_timed):
        timed.append(is_timed)
        return Affordability(None, "none")

    monkeypatch.setattr(bases_module, "fit_stacked_mixture", searching)
    monkeypatch.setattr(bases_module, "affordable_flow", unaffordable)
    monkeypatch.setattr(bases_module, "MOST_SINGLE_ROWS", 0)
    rows = spiral(600)
    monkeypatch.setattr(bases_module, "fit_averaged_mixture", averaging)
    for allowed in (ReferenceTime(5.0), ReferenceTime.within(1.0)):
        for least in (401, 400):
            monkeypatch.setattr(bases_module, "LEAST_ROWS", least)
            chosen = choose_bases(rows[:400], rows[400:], kind="reference", allowed=allowed)
            assert ("large mixtures" in chosen.scores) == (least == 400)
    assert timed == [False] * 4 + [True] * 4
    assert searched == [math.inf, math.inf, pytest.approx(4.2), pytest.approx(2.1)]
    assert averaged == [(400, 0.03, 20.0, False), (400, 0.03, pytest.approx(4.8), True)]


def test_flows_of_a_limited_time_run_in_as_many_lanes_as_there_are(monkeypatch):
    """Without a limit they run one after the other, so that they are the same everywhere."""
    asked = []

    def racing(copies, validation, *, lanes, **_):
        asked.append(lanes)
        return {}, {}

    monkeypatch.setattr(bases_module, "fit_stacked_mixture", gaussian_stack)
    monkeypatch.setattr(bases_module, "num_lanes", lambda: 3)
    monkeypatch.setattr(bases_module, "affordable_flow", small_flow)
    monkeypatch.setattr(bases_module, "race_flows", racing)
    rows = spiral(600)
    for allowed in (ReferenceTime.within(1.0), ReferenceTime(5.0)):
        choose_bases(rows[:400], rows[400:], kind="reference", allowed=allowed)
    monkeypatch.setattr(Workers, "current", lambda: Workers(1, 2))
    choose_bases(rows[:400], rows[400:], kind="reference", allowed=ReferenceTime.within(1.0))
    assert asked == [3, 1, 1]


def test_the_time_of_lanes_is_known(monkeypatch):
    with_scores(monkeypatch, affine=-100.0, spline=100.0)
    monkeypatch.setattr(bases_module, "num_lanes", lambda: 2)
    rows = spiral(600)
    limited = dataclasses.replace(ReferenceTime.within(1.0), flow=0.5)
    wall, processor = choose_bases(rows[:400], rows[400:], kind="reference", allowed=limited).beside
    assert wall > processor > 0
    alone = choose_bases(rows[:400], rows[400:], kind="reference", allowed=ReferenceTime(0.5))
    assert alone.beside == (0.0, 0.0)


def test_flows_have_less_of_the_minutes_after_the_first():
    shares = [ReferenceTime.within(minutes).most_flow / (60 * minutes) for minutes in (0.5, 1.0, 4.0)]
    assert shares == pytest.approx([0.65, 0.65, (0.65 + 3 * 0.4) / 4])


def test_flows_that_fail_or_fall_behind_leave_the_mixture(monkeypatch):
    with_scores(monkeypatch, affine=-100.0, spline=-100.0)
    rows = spiral(600)

    def chosen():
        return choose_bases(rows[:400], rows[400:], kind="reference", allowed=ReferenceTime(5.0))

    assert (chosen().noisy, chosen().remarks) == (None, ())
    assert not {"affine flow", "spline flow", "blend"} & set(chosen().mixtures)
    assert chosen().scores["spline flow"] < chosen().scores["gaussian"]
    missing = {"affine flow": "the flow has no score", "spline flow": "the flow has no score"}
    monkeypatch.setattr(bases_module, "race_flows", lambda *_, **__: ({}, missing))
    assert "spline flow" not in chosen().scores
    assert chosen().remarks == ("no flow: the flow has no score",)


def test_single_mixtures_give_their_time_to_flows(monkeypatch):
    """Within a limit of time they are no candidates for tables with flows."""
    monkeypatch.setattr(bases_module, "fit_stacked_mixture", gaussian_stack)
    monkeypatch.setattr(bases_module, "affordable_flow", lambda *_, **__: Affordability(None, "none"))
    monkeypatch.setattr(bases_module, "NUM_COMPONENTS", (2,))
    rows = torch.randn(200, 4, generator=seeded_generator(0), dtype=torch.float64)
    limited = ReferenceTime.within(9.0)
    for least, allowed, number in ((200, limited, 0), (201, limited, 2), (200, NO_FLOW, 2)):
        monkeypatch.setattr(bases_module, "LEAST_ROWS", least)
        scores = choose_bases(rows, rows[:50], kind="reference", allowed=allowed).scores
        assert sum(name in scores for name in ("2 full", "2 diag")) == number


def test_flows_end_in_time_whatever_the_other_fits_took(monkeypatch):
    asked = []

    def affordable(num_rows, num_columns, seconds, *, elementwise, is_timed):
        asked.append(seconds)
        return Affordability(None, "none")

    monkeypatch.setattr(bases_module, "fit_stacked_mixture", gaussian_stack)
    monkeypatch.setattr(bases_module, "affordable_flow", affordable)
    rows = spiral(300)
    for spent in (0.0, 50.0, 60.0):
        choose_bases(rows[:200], rows[200:], kind="reference", allowed=ReferenceTime.within(1.0, spent=spent))
    assert asked[:2] == [39.0, 39.0]
    assert asked[2] == pytest.approx(5.2, abs=2.0)
    assert asked[4:] == [0.0, 0.0]


def gaussian_stack(copies, **_):
    kinds = (Candidate(1, 0.1, 0.7, 0.0), Candidate(5, 0.03, 0.3, 0.0))
    return StackedMixture(NoisedGaussianMixture.standard(copies.shape[2]), kinds, torch.zeros(copies.shape[1]))


def small_flow(num_rows, num_columns, seconds, *, elementwise, is_timed=False):
    sizes = drl.AutoregressiveFlowSettings(num_columns, 1, num_bins=4, width=8, elementwise=elementwise)
    return Affordability(FlowPlan(sizes, num_steps=10, batch_size=64), "small")


def test_many_columns_of_few_rows_get_the_same_gaussian_without_matrices_and_no_stack(monkeypatch):
    rows = torch.randn(9, 3, generator=seeded_generator(0)) @ torch.randn(3, 40, generator=seeded_generator(1))
    rows = (rows + torch.randn(9, 40, generator=seeded_generator(2))).double()
    dense = fit_gaussian(rows)
    monkeypatch.setattr(bases_module, "MOST_DENSE_COLUMNS", 39)
    wide, others = fit_gaussian(rows), torch.randn(50, 40, generator=seeded_generator(3))
    assert isinstance(wide, FactorAnalysers)
    for log_snr in (torch.tensor(math.inf), torch.tensor(0.5)):
        torch.testing.assert_close(wide(others, log_snr), dense(others, log_snr), rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(bases_module, "fit_stacked_mixture", None)  # not called
    found = choose_bases(rows, rows, kind="reference")
    assert "stack" not in found.scores
    assert found.remarks[0] == "no stack: more than 39 columns"
