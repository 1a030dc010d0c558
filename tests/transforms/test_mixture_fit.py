"""Mixtures of one column: no spikes, what they were drawn from, closed gradients, and order statistics for all values."""

import torch

from drl_density.descent import DescentRule, descend
from drl_density.testing import seeded_generator
from drl_density.transforms.mixture_fit import (
    MOST_VALUES,
    MixtureFit,
    _order_statistics,
    fit_mixture,
    gradients_of_mean,
)


def test_rounded_values_make_no_spikes():
    """On values rounded to 0.5, left as spikes, no component is narrower than the scale asked for."""
    x = (torch.randn(800, 1, generator=seeded_generator(4), dtype=torch.float64) * 2).round() / 2
    fit = fit_mixture(x, 8, torch.tensor([0.15], dtype=torch.float64))
    assert float(fit.scales.min()) >= 0.15
    free = fit_mixture(x, 8, torch.tensor([1e-4], dtype=torch.float64))
    assert float(free.scales.min()) < 0.05


def test_a_mixture_recovers_what_it_was_drawn_from():
    generator = seeded_generator(6)
    is_first = torch.rand(4000, 1, generator=generator, dtype=torch.float64) < 0.3
    logistic = torch.logit(torch.rand(4000, 1, generator=generator, dtype=torch.float64))
    y = torch.where(is_first, -4.0 + 0.5 * logistic, 3.0 + logistic)
    fit = fit_mixture(y, 2, torch.tensor([0.01]).double())
    order = fit.locations[0].argsort()
    # Standard errors of weight, locations and scales on 4,000 rows are below 0.03.
    torch.testing.assert_close(fit.log_weights[0, order].exp(), torch.tensor([0.3, 0.7]).double(), rtol=0, atol=0.04)
    torch.testing.assert_close(fit.locations[0, order], torch.tensor([-4.0, 3.0]).double(), rtol=0, atol=0.15)
    torch.testing.assert_close(fit.scales[0, order], torch.tensor([0.5, 1.0]).double(), rtol=0, atol=0.1)


def test_gradients_of_a_mixture_in_closed_form():
    generator = seeded_generator(6)
    y = 4 * torch.randn(30, 2, generator=generator, dtype=torch.float64)
    y[0] = 1e4  # every density underflows there, its logarithm does not
    shares = torch.rand(30, 1, generator=generator, dtype=torch.float64)
    log_weights, locations = torch.randn(2, 2, 3, generator=generator, dtype=torch.float64)
    scales = 0.1 + torch.rand(2, 3, generator=generator, dtype=torch.float64)
    parts = [part.requires_grad_() for part in (log_weights.log_softmax(-1), locations, scales)]
    expected = torch.autograd.grad((shares * MixtureFit(*parts).log_density(y)).sum(), parts)
    found = gradients_of_mean(y, shares, *(part.detach() for part in parts))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_fit_descends_as_autograd_does():
    """Every step follows the gradient of the mean log density in locations, logarithms of scales and weights."""
    y = torch.randn(40, 2, generator=seeded_generator(7), dtype=torch.float64) * torch.tensor([1.0, 9.0]).double()
    least = 0.1 * y.std(0)
    start = fit_mixture(y, 2, least, num_steps=0)
    point = torch.stack([start.locations, (start.scales - least[:, None]).log(), torch.zeros(2, 2).double()])
    point.requires_grad_()
    units = torch.stack([y.std(0)[:, None].expand(2, 2), *torch.ones(2, 2, 2).double()])

    def loss():
        mixture = MixtureFit(point[2].log_softmax(-1), point[0], least[:, None] + point[1].exp())
        return -mixture.log_density(y).mean(0).sum()

    point.register_hook(lambda gradient: gradient * units)
    descend([point], loss, DescentRule(20, 0.05, is_annealed=True))
    fit = fit_mixture(y, 2, least, num_steps=20)
    torch.testing.assert_close(fit.locations, point[0].detach(), rtol=1e-5, atol=1e-5)  # the fit computes in float32
    torch.testing.assert_close(fit.scales, (least[:, None] + point[1].exp()).detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fit.log_weights, point[2].log_softmax(-1).detach(), rtol=1e-5, atol=1e-5)


def test_order_statistics_stand_for_all_values():
    """Heavy tails stand for themselves, shares add up to one, and sums over the body hardly differ."""
    y = torch.randn(7_001, 2, generator=seeded_generator(8), dtype=torch.float64) * torch.tensor([1.0, 40.0]).double()
    y[:3] *= 1e6
    values, shares = _order_statistics(y)
    assert len(values) <= MOST_VALUES
    torch.testing.assert_close(shares.sum(), torch.ones(()).double(), rtol=1e-12, atol=0)
    for found, expected in ((values[:40], y.sort(0).values[:40]), (values[-40:], y.sort(0).values[-40:])):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    # A bounded function of total variation 2 moves by at most 2 / 900 when each of 900 shares takes one value.
    torch.testing.assert_close((shares * values.tanh()).sum(0), y.tanh().mean(0), rtol=0, atol=2 / 900)
