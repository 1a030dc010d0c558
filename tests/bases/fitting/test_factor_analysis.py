"""Expectation maximisation for factor analysers: likelihood, batches, noise, and refusals."""

import pytest
import torch

from drl_density.bases import FactorAnalysers
from drl_density.bases.fitting.factor_analysis import (
    FactorSize,
    _expected,
    _first_components,
    _maximized,
    fit_factor_analysers,
)
from drl_density.errors import DataError
from drl_density.testing import seeded_generator

SIZE = FactorSize(3, 2)


def truth(num_features=12):
    generator = seeded_generator(0)
    means = 3 * torch.randn(3, num_features, generator=generator)
    loadings = torch.randn(3, num_features, 2, generator=generator)
    noises = 0.1 + torch.rand(3, num_features, generator=generator)
    return FactorAnalysers(torch.tensor([0.5, 0.3, 0.2]), means, loadings, noises)


def test_every_step_raises_the_likelihood():
    x = truth().sample(800, generator=seeded_generator(1))
    found = _first_components(x, SIZE, seeded_generator(2), torch.device("cpu"))
    values = []
    for _ in range(6):
        density = FactorAnalysers(found.weights, found.means, found.loadings, found.noises)
        values.append(float(density.log_prob(x).double().mean()))
        found = _maximized(found, _expected(found, x))
    assert all(later > earlier for earlier, later in zip(values, values[1:], strict=False))
    assert values[-1] > values[0] + 0.1


def test_shares_and_moments_are_those_of_the_posterior():
    """One step from the truth, against sums over rows of posterior moments by dense matrices in float64."""
    density, x = truth(5), truth(5).sample(40, generator=seeded_generator(1))
    law = density.conditional()
    everything = torch.zeros(40, 5, dtype=torch.bool)
    logs, centers, triangles = law._posterior(x.double(), everything)
    shares, covariances = logs.softmax(1), torch.cholesky_inverse(triangles[0])
    found = _expected(_parameters(density), x)
    torch.testing.assert_close(found.held, shares.mean(0), rtol=1e-4, atol=1e-4)
    second = torch.einsum("nk,nkr,nks->krs", shares, centers, centers) / 40 + found.held[:, None, None] * covariances
    torch.testing.assert_close(found.inner[:, :2, :2], second, rtol=1e-3, atol=1e-3)
    cross = torch.einsum("nk,nd,nkr->kdr", shares, x.double(), centers) / 40
    torch.testing.assert_close(found.cross[..., :2], cross, rtol=1e-3, atol=1e-3)


def _parameters(density):
    parts = density.log_weights.exp(), density.means, density.loadings, density.noises
    found = _first_components(torch.randn(6, 5), SIZE, None, torch.device("cpu"))
    return type(found)(*parts)


def test_batches_come_as_close_as_the_truth():
    density = truth()
    x, held_out = (density.sample(n, generator=seeded_generator(seed)) for n, seed in ((5200, 1), (2000, 2)))
    found = fit_factor_analysers(x, SIZE, num_passes=4, generator=seeded_generator(3))
    gap = density.log_prob(held_out) - found.log_prob(held_out)
    # 3 (12 * 4) parameters over 5,200 rows cost 0.014 nats; the rest is the error of 2,000 rows.
    assert float(gap.mean()) < 0.03 + 4 * float(gap.std()) / 2000**0.5
    torch.testing.assert_close(found.log_weights.exp().sort()[0], torch.tensor([0.2, 0.3, 0.5]), rtol=0, atol=0.03)


def test_rows_may_be_drawn_by_index_with_fresh_noise():
    x, noise = truth().sample(300, generator=seeded_generator(1)), seeded_generator(4)
    seen = []

    def draw(index):
        seen.append(len(index))
        return x[index] + 0.5 * torch.randn(len(index), 12, generator=noise)

    found = fit_factor_analysers(draw, SIZE, num_rows=300, num_passes=3, generator=seeded_generator(3))
    assert seen == [300] * 4
    assert float(found.noises.mean()) > 0.25
    with pytest.raises(DataError, match="give num_rows"):
        fit_factor_analysers(draw, SIZE)


def test_empty_components_are_left_out_and_constant_columns_keep_a_variance():
    generator = seeded_generator(5)
    x = torch.cat([torch.randn(60, 3, generator=generator), torch.zeros(60, 1)], 1)
    x[30:, :3] = x[:1, :3]  # half of the rows are one row, which ends as a single component
    found = fit_factor_analysers(x, FactorSize(12, 2), num_passes=8, generator=generator)
    assert bool(found.log_prob(x).isfinite().all())
    assert found.num_components <= 12
    assert float(found.noises.min()) >= 1e-3 * (1 - 1e-6)


def test_too_few_rows_and_too_little_memory_are_refused_with_the_size_that_would_fit():
    x = torch.randn(10, 4, generator=seeded_generator(0))
    with pytest.raises(DataError, match="6 components need at least 12 rows, got 10: ask for at most 5"):
        fit_factor_analysers(x, FactorSize(6, 2))
    size = FactorSize(4, 2)
    allowed = FactorSize(2, 2).num_bytes(4)
    with pytest.raises(DataError, match="ask for 2 components of 2 factors"):
        fit_factor_analysers(x, size, most_bytes=allowed)
    assert size.largest_within(1, 4) is None
    with pytest.raises(DataError, match="no size fits"):
        fit_factor_analysers(x, size, most_bytes=1)
