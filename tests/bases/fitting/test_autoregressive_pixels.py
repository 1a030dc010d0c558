"""Fits of autoregressive densities: towards known probabilities, weights, endings, sizes by time, bad input."""

import dataclasses
import math

import pytest
import torch

from drl_density.bases import AutoregressivePixels, PixelSettings
from drl_density.bases.fitting import (
    GreyLevels,
    PixelPlan,
    affordable_pixels,
    autoregressive_pixels as module,
    fit_autoregressive_pixels,
)
from drl_density.errors import NumericalError
from drl_density.testing import seeded_generator

SMALL = PixelPlan(
    PixelSettings((1, 2, 2), num_cells=3, width=16, rank=4),
    num_steps=200,
    batch_size=256,
    learning_rate=0.01,
    num_warm_up=10,
    averaging=0.9,
    num_scores=4,
)
EVEN = torch.zeros(4, 3).log_softmax(1)


def levels(train, validation, log_shares=EVEN, **given):
    return GreyLevels(train, validation, (1, 2, 2), log_shares, **given)


@pytest.fixture(autouse=True)
def few_scored_values(monkeypatch):
    """So that a score costs little."""
    monkeypatch.setattr(module, "MOST_SCORED", 4096)


def chains(count, seed):
    """Pixels that repeat the one before them with probability 0.8, and their exact log probability."""
    generator = seeded_generator(seed)
    images = torch.randint(3, (count, 4), generator=generator)
    for place in range(1, 4):
        keeps = torch.rand(count, generator=generator) < 0.8
        other = (images[:, place - 1] + torch.randint(1, 3, (count,), generator=generator)) % 3
        images[:, place] = torch.where(keeps, images[:, place - 1], other)
    is_kept = images.diff(dim=1) == 0
    return images, -math.log(3) + torch.where(is_kept, math.log(0.8), math.log(0.1)).sum(1)


def test_it_comes_close_to_known_probabilities():
    images, fresh, (test, truth) = chains(4000, 0)[0], chains(500, 1)[0], chains(4000, 2)
    fit = fit_autoregressive_pixels(levels(images, fresh), plan=SMALL, generator=seeded_generator(3))
    gap = float((truth - fit.base.cell_log_probabilities(test).sum(1)).mean())
    # Independent pixels are 4 log 3 - 3.02 = 1.38 nats off.
    assert -0.01 < gap < 0.05
    assert fit.record.ending == "steps"
    assert not any(weight.requires_grad for weight in fit.base.weights())


def test_equal_seeds_give_equal_bits_and_nothing_global_changes():
    images, plan = chains(300, 4)[0], dataclasses.replace(SMALL, dropout=0.3, num_steps=6)
    before = torch.get_rng_state()
    one, two, other = (
        fit_autoregressive_pixels(levels(images, images[:50]), plan=plan, generator=seeded_generator(seed)).base
        for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert torch.equal(one.network.enter, two.network.enter)
    assert not torch.equal(one.network.enter, other.network.enter)


def test_the_best_weights_are_kept():
    """Fitted without dropout to 12 images, a network soon scores worse on others."""
    images, fresh = chains(12, 7)[0], chains(200, 8)[0]
    plan = dataclasses.replace(SMALL, num_steps=300, learning_rate=0.03, num_scores=20, patience=0.2)
    scores = {}
    fit = fit_autoregressive_pixels(
        levels(images, fresh), plan=plan, on_score=scores.__setitem__, generator=seeded_generator(9)
    )
    record = fit.record
    assert record.ending == "patience"
    assert record.best_step < record.num_steps < 400
    assert record.best_step == max(scores, key=scores.__getitem__)
    assert max(scores.values()) > list(scores.values())[-1] + 0.05


def test_images_count_by_their_weights():
    images = torch.cat([torch.zeros(50, 4), torch.full((50, 4), 2)]).long()
    weights = torch.cat([torch.full((50,), 0.01), torch.ones(50)])
    plan = dataclasses.replace(SMALL, num_steps=40)
    fits = [
        fit_autoregressive_pixels(levels(images, images, weights=given), plan=plan, generator=seeded_generator(0)).base
        for given in (None, weights)
    ]
    shares = [float(base.cell_log_probabilities(images[-1:])[0, 0].exp()) for base in fits]
    assert shares[0] == pytest.approx(0.5, abs=0.1)
    assert shares[1] > 0.85


def test_pixels_of_more_entropy_are_taken_more_often_without_bias(monkeypatch):
    """The mean loss over the values of a step is that over all pixels, whatever the chances."""
    monkeypatch.setattr(module, "MOST_SCORED", 32_768)
    shares = torch.tensor([[0.998, 0.001, 0.001], [0.4, 0.3, 0.3], [0.9, 0.05, 0.05], [1 / 3, 1 / 3, 1 / 3]])
    images = torch.randint(3, (500, 4), generator=seeded_generator(0))
    scores = {}
    plan = dataclasses.replace(SMALL, num_steps=1, learning_rate=1e-9)
    fit_autoregressive_pixels(
        levels(images, images, shares.log()), plan=plan, on_score=scores.__setitem__, generator=seeded_generator(1)
    )
    expected = float(shares.log()[torch.arange(4), images].mean())
    assert scores[1] == pytest.approx(expected, rel=0.05)  # 32,500 values: a standard error of about 1 %


def test_the_clock_ends_a_fit():
    images = chains(100, 10)[0]
    ended = fit_autoregressive_pixels(
        levels(images, images), plan=SMALL, max_seconds=1e-9, generator=seeded_generator(0)
    )
    assert (ended.record.ending, ended.record.num_steps, ended.record.best_step) == ("time", 1, 1)


def test_a_loss_that_is_not_finite_ends_a_fit(monkeypatch):
    images, plan = chains(100, 10)[0], dataclasses.replace(SMALL, num_scores=200)
    monkeypatch.setattr(module, "MOST_SCORED", 256)
    spoil(monkeypatch, after=2)  # a step and its score
    ended = fit_autoregressive_pixels(levels(images, images), plan=plan, generator=seeded_generator(0))
    assert (ended.record.ending, ended.record.num_steps) == ("divergence", 1)
    assert bool(ended.base.log_prob(torch.zeros(1, 4)).isfinite().all())
    monkeypatch.undo()
    spoil(monkeypatch, after=0)
    with pytest.raises(NumericalError, match="the autoregressive density has no score: .* after 0 steps; lower the"):
        fit_autoregressive_pixels(levels(images, images), plan=plan, generator=seeded_generator(0))


def spoil(monkeypatch, *, after):
    """Make logits infinite after some passes."""
    plain, count = AutoregressivePixels.logits_of, []

    def spoiled(self, *given):
        count.append(1)
        return plain(self, *given) * (math.inf if len(count) > after else 1.0)

    monkeypatch.setattr(AutoregressivePixels, "logits_of", spoiled)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(5, 3).long(), r"expected train \(n, 4\) with n at least 1, got \(5, 3\)"),
        (torch.zeros(0, 4).long(), r"expected train \(n, 4\) with n at least 1, got \(0, 4\)"),
        (torch.full((5, 4), 3), r"whole numbers from 0 to 2, got torch.int64 from 3 to 3"),
        (torch.full((5, 4), -1), r"whole numbers from 0 to 2, got torch.int64 from -1 to -1"),
        (torch.zeros(5, 4), r"whole numbers from 0 to 2, got torch.float32 from 0 to 0"),
    ],
)
def test_images_that_cannot_be_fitted_are_refused(images, message):
    good = torch.zeros(5, 4).long()
    with pytest.raises(ValueError, match=message):
        levels(images, good)
    with pytest.raises(ValueError, match=message.replace("train", "validation")):
        levels(good, images)
    with pytest.raises(ValueError, match=r"expected log shares \(4, cells\) of images \(1, 2, 2\), got \(3, 3\)"):
        levels(good, good, EVEN[:3])
    other = dataclasses.replace(SMALL, settings=PixelSettings((1, 4, 1), num_cells=3))
    with pytest.raises(ValueError, match=r"expected images \(1, 4, 1\) of 3 grey levels, got \(1, 2, 2\) of 3"):
        fit_autoregressive_pixels(levels(good, good), plan=other)


def test_sizes_follow_time_and_images():
    even = torch.zeros(784, 256).log_softmax(1)

    def affordable(count, seconds, *, shares=even, **given):
        images = torch.zeros(1, 784, dtype=torch.uint8).expand(count, -1)
        return affordable_pixels(GreyLevels(images, images[:1], (1, 28, 28), shares), seconds, **given)

    widths = {}
    for seconds in (20.0, 100.0, 2000.0):
        plan = affordable(60_000, seconds).plan
        widths[seconds] = plan.settings.width
        assert plan.num_steps >= module.LEAST_STEPS_AT_ALL
    assert widths[20.0] < widths[100.0] < widths[2000.0]
    sure = torch.tensor([0.0] + [-9.0] * 255).log_softmax(0).expand(784, -1)  # 0.6 bits a pixel
    assert affordable(module.LEAST_IMAGES, 2000.0, shares=sure).plan.settings.width == module.WIDTHS[-1]
    few, many = (affordable(count, 600.0).plan for count in (1000, 60_000))
    assert (few.dropout, many.dropout) == (0.1, 0.0)
    assert few.num_steps <= module.MOST_PASSES * 1000 * 784 / few.batch_size + 1
    few, many = (affordable(count, 100.0).plan for count in (1000, 60_000))  # four passes over few values are fewer steps
    assert few.settings.width > many.settings.width
    assert module.LEAST_PASSES * 1000 * 784 / few.batch_size <= few.num_steps < module.LEAST_STEPS <= many.num_steps
    timed = affordable(60_000, 600.0, is_timed=True)
    assert timed.plan.num_steps == module.MOST_STEPS
    assert timed.reason == "a network of 3 layers of 256, at most 100,000 steps, 600 s"
    none = affordable(60_000, 0.5)
    assert none.plan is None
    assert none.reason == "no autoregressive density: the smallest takes 2 s of one core, and 0 s are allowed"
    few = affordable(module.LEAST_IMAGES - 1, 2000.0)
    assert few == (None, "no autoregressive density: 199 images are fewer than 200")
