"""Blends of fitted densities: optimal weights, members that are left out, and gains beyond their error."""

import math

import numpy as np
import pytest
import torch

from drl_density.bases import NoisedGaussianMixture
from drl_density.bases.fitting import error_of_mean, fit_blend
from drl_density.testing import seeded_generator


def normal(mean, deviation=1.0):
    return NoisedGaussianMixture(torch.ones(1), torch.tensor([[mean]]), torch.tensor([[deviation**2]]))


def mixed_rows(count, seed):
    """Rows of 0.6 N(-1, 1) + 0.4 N(2, 0.5^2)."""
    generator = seeded_generator(seed)
    is_left = torch.rand(count, 1, generator=generator) < 0.6
    noise = torch.randn(count, 1, generator=generator)
    return torch.where(is_left, noise - 1, 0.5 * noise + 2)


def scores(candidates, rows):
    return {name: base.log_prob(rows) for name, base in candidates.items()}


CANDIDATES = {"left": normal(-1.0), "right": normal(2.0, 0.5), "far": normal(40.0)}


def test_weights_are_the_optimum_and_useless_members_are_left_out():
    from scipy.optimize import minimize

    rows, fresh = mixed_rows(400, 0), mixed_rows(4000, 1)
    found = fit_blend(CANDIDATES, scores(CANDIDATES, rows))
    assert found is not None
    assert list(found.weights) == ["left", "right"]
    left, right = (CANDIDATES[name].log_prob(rows.double()).exp().numpy() for name in ("left", "right"))
    optimum = minimize(lambda w: -np.log(w[0] * left + (1 - w[0]) * right).mean(), [0.5], bounds=[(0.01, 0.99)])
    # EM ends where an iteration gains less than 1e-7 nats; the likelihood is flat to 1e-5 over 0.003 of weight.
    assert found.weights["left"] == pytest.approx(float(optimum.x[0]), abs=3e-3)
    assert found.log_likelihood == pytest.approx(-float(optimum.fun), abs=1e-5)
    torch.testing.assert_close(found.base.log_prob(rows.double()), found.log_densities, rtol=0, atol=1e-6)
    # The gain is real: rows that chose nothing gain as much.
    gains = found.base.log_prob(fresh).double() - CANDIDATES["left"].log_prob(fresh).double()
    assert found.gain == pytest.approx(float(gains.mean()), abs=4 * found.gain_error)
    assert found.gain > 4 * found.gain_error


def test_there_is_no_blend_where_one_candidate_is_right():
    """The weights of near copies of the truth fit chance alone, which is below the error of the gain."""
    candidates = {"truth": normal(0.0), "near": normal(0.1), "other": normal(-0.1, 1.05)}
    rows = [torch.randn(300, 1, generator=seeded_generator(seed)) for seed in range(20)]
    found = [fit_blend(candidates, scores(candidates, each)) for each in rows]
    # A gain beyond one error has a chance of 16 % at most.
    assert sum(blend is not None for blend in found) <= 6
    alone = {"only": normal(0.0)}
    assert fit_blend(alone, scores(alone, rows[0])) is None


def test_a_gain_within_its_error_is_no_gain():
    rows = mixed_rows(400, 0)
    values = scores(CANDIDATES, rows)
    assert fit_blend(CANDIDATES, values) is not None
    # As copies of two rows, one on each side, they say next to nothing about further rows.
    source = (values["left"] > values["right"]).long()
    assert fit_blend(CANDIDATES, values, source=source) is None


def test_copies_of_a_row_count_as_one():
    values = torch.randn(50, generator=seeded_generator(3), dtype=torch.float64)
    single = float(values.std()) / math.sqrt(50)
    assert error_of_mean(values) == pytest.approx(single)
    source = torch.arange(50).repeat(3) + 7
    assert error_of_mean(values.repeat(3), source) == pytest.approx(single)
    assert error_of_mean(values[:1]) == math.inf
    assert error_of_mean(values, torch.zeros(50, dtype=torch.long)) == math.inf
