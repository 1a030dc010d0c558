"""One descent loop: torch's numbers, clipping, rollbacks, and the error that says where it stopped."""

import math

import pytest
import torch

from drl_density.descent import KEEP_EVERY, Adam, AdamW, Descent, DescentRule, descend
from drl_density.errors import TrainingFailed


def start():
    return torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)


def loss(x):
    return (x - 3).square().sum() + x.prod()


def test_it_reproduces_torchs_adam_under_its_cosine_schedule():
    x, y = start(), start()
    optimizer = torch.optim.Adam([y], lr=0.1, betas=(0.5, 0.9))
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    expected = []
    for _ in range(30):
        value = loss(y)
        expected.append(float(value.detach()))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_([y], 2.0)
        optimizer.step()
        rate.step()
    rule = DescentRule(30, 0.1, betas=(0.5, 0.9), is_annealed=True, max_gradient_norm=2.0)
    assert descend([x], lambda: loss(x), rule) == expected
    assert torch.equal(x, y)


def test_a_gradient_in_closed_form_moves_as_that_of_a_loss():
    x, y = start(), start()
    rule = DescentRule(20, 0.1, is_annealed=True, max_gradient_norm=2.0)
    descend([x], lambda: loss(x), rule)
    descent = Descent([y], rule)
    for _ in range(20):
        descent.move([2 * (y.detach() - 3) + y.detach().flip(0)])
    assert torch.equal(x, y)


@pytest.mark.parametrize(("ours", "torchs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
@pytest.mark.parametrize("foreach", [False, True])
def test_our_optimisers_take_torchs_steps(ours, torchs, foreach):
    """To the bit, across a saved and restored state and a group of parameters that is added later."""
    ends = []
    for kind in (ours, torchs):
        x, y = start(), start()
        optimizer = kind([x], lr=0.1, weight_decay=0.1, foreach=foreach)
        for step in range(20):
            if step == 5:
                optimizer.add_param_group({"params": [y], "lr": 0.2})
            if step == 10:
                saved = optimizer.state_dict()
                optimizer = kind([{"params": [x]}, {"params": [y]}], foreach=foreach)
                optimizer.load_state_dict(saved)
            optimizer.zero_grad()
            (loss(x) + loss(y)).backward()
            optimizer.step()
        assert x.requires_grad
        ends.append(torch.stack([x, y]).detach())
    assert torch.equal(*ends)


def test_the_rate_is_constant_unless_annealed():
    assert DescentRule(3, 0.2).learning_rates() == [0.2] * 3
    rates = DescentRule(100, 0.2, is_annealed=True).learning_rates()
    expected = [0.1 * (1 + math.cos(math.pi * step / 100)) for step in range(100)]
    # The recursion multiplies a hundred ratios, each right to 1e-16, and ends at a rate 4,000 times smaller.
    assert rates == pytest.approx(expected, rel=1e-9)


def test_gradients_are_clipped_before_the_moments():
    """Adam moves by the learning rate at first, whatever the norm; its second moment shows the clipped gradient."""
    x = start()
    descent = Descent([x], DescentRule(1, 0.1, max_gradient_norm=1e-3))
    descent.step(loss(x))
    moment = descent.optimizer.state[x]["exp_avg_sq"].sum()
    assert float(moment) == pytest.approx(1e-3 * 1e-3**2, rel=1e-3)


def failing(x, steps):
    """A loss that is not a number at the calls in ``steps``."""
    calls = iter(range(10_000))
    return lambda: loss(x) * (math.nan if next(calls) in steps else 1.0)


def test_a_loss_that_is_not_finite_stops_the_descent():
    x = start()
    with pytest.raises(TrainingFailed, match="the bound at step 3 is nan; widen it"):
        descend([x], failing(x, {3}), DescentRule(9, 0.1), name="the bound", advice="widen it")
    with pytest.raises(TrainingFailed, match="the loss at step 0 is nan; lower the learning rate"):
        descend([x], failing(x, {0}), DescentRule(9, 0.1, most_rollbacks=5))


def test_a_rollback_returns_to_kept_weights_and_halves_the_rate():
    x, steps = start(), []
    found = failing(x, {KEEP_EVERY + 7})
    rule = DescentRule(KEEP_EVERY + 20, 0.01, most_rollbacks=1)
    losses = descend([x], found, rule, on_step=lambda step, _: steps.append((step, x.detach().clone())))
    assert len(losses) == KEEP_EVERY + 20
    assert [step for step, _ in steps] == list(range(KEEP_EVERY + 20))
    # After the rollback the loss is again the one before step KEEP_EVERY, with Adam's moments of that time.
    assert losses[KEEP_EVERY + 7] == losses[KEEP_EVERY]
    before = (steps[KEEP_EVERY][1] - steps[KEEP_EVERY - 1][1]).norm()
    after = (steps[KEEP_EVERY + 7][1] - steps[KEEP_EVERY - 1][1]).norm()
    assert float(after / before) == pytest.approx(0.5, rel=1e-9)


def test_rollbacks_are_counted():
    x = start()
    always = failing(x, set(range(5, 1000)))
    with pytest.raises(TrainingFailed, match="at step 5 is nan, after 2 rollbacks with half the learning rate"):
        descend([x], always, DescentRule(30, 0.01, most_rollbacks=2))


def test_a_descent_that_may_be_infinite_goes_on_with_what_is_finite():
    x, y = start(), start()
    rule = DescentRule(5, 0.1, must_be_finite=False)
    losses = descend([x, y], lambda: loss(x) + (y * math.nan).sum(), rule)
    assert all(map(math.isnan, losses))
    assert bool(x.isfinite().all())
    assert not bool(y.isfinite().any())


def test_gradients_are_on_inside_no_grad():
    x = start()
    with torch.no_grad():
        losses = descend([x], lambda: loss(x), DescentRule(5, 0.1))
    assert losses[-1] < losses[0]
