"""Expectation maximisation of many mixtures at once: closed forms, bootstrap weights, empty components."""

import pytest
import torch

from drl_density.bases.fitting import fit_mixtures
from drl_density.bases.gaussian_mixture import NoisedGaussianMixture
from drl_density.testing import seeded_generator


def two_clusters(count=400):
    noise = torch.randn(count, 2, generator=seeded_generator(0), dtype=torch.float64)
    return noise * torch.tensor([0.5, 1.0]) + torch.tensor([4.0, 0.0]) * (torch.arange(count) % 2)[:, None]


def test_one_component_is_the_weighted_gaussian_of_maximum_likelihood():
    rows = two_clusters()
    weights = torch.rand(3, len(rows), generator=seeded_generator(1), dtype=torch.float64)
    batch = fit_mixtures(rows, weights, 1, ridge=0.25)
    for index, weight in enumerate(weights):
        expected = torch.cov(rows.T, aweights=weight, correction=0) + 0.25 * torch.eye(2, dtype=torch.float64)
        torch.testing.assert_close(batch.covariances[index, 0], expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(batch.means[index, 0], (weight[:, None] * rows).sum(0) / weight.sum())


def test_the_log_density_is_that_of_the_mixture():
    rows = two_clusters()
    batch = fit_mixtures(rows, torch.ones(2, len(rows)), 3, ridge=1e-3, generator=seeded_generator(2))
    for index in range(2):
        same = NoisedGaussianMixture(batch.log_weights[index].exp(), batch.means[index], batch.covariances[index])
        torch.testing.assert_close(
            batch.log_prob(rows)[index].float(), same.log_prob(rows).float(), rtol=1e-4, atol=1e-4
        )


def test_integer_weights_are_repeated_rows():
    """Weights and repetitions give the same optimum, from whatever rows the fits start."""
    rows = two_clusters(100)
    counts = torch.randint(0, 4, (1, 100), generator=seeded_generator(3))
    weighted = fit_mixtures(
        rows, counts, 2, ridge=1e-2, num_iterations=500, tolerance=1e-12, generator=seeded_generator(4)
    )
    repeated = rows.repeat_interleave(counts[0], 0)
    plain = fit_mixtures(
        repeated,
        torch.ones(1, len(repeated)),
        2,
        ridge=1e-2,
        num_iterations=500,
        tolerance=1e-12,
        generator=seeded_generator(4),
    )
    torch.testing.assert_close(weighted.log_prob(rows), plain.log_prob(rows), rtol=1e-5, atol=1e-5)


def test_iterations_do_not_lower_the_likelihood():
    rows = two_clusters()
    scores = [
        float(
            fit_mixtures(
                rows, torch.ones(1, 400), 4, ridge=0.0, num_iterations=count, tolerance=0, generator=seeded_generator(5)
            )
            .log_prob(rows)
            .mean()
        )
        for count in (1, 3, 10, 30)
    ]
    assert scores == sorted(scores)


def test_an_empty_component_has_no_weight_and_does_no_harm():
    rows = torch.zeros(10, 1, dtype=torch.float64)
    batch = fit_mixtures(rows, torch.ones(1, 10), 3, ridge=1.0)
    assert int((batch.log_weights > -torch.inf).sum()) == 1
    torch.testing.assert_close(batch.log_prob(rows), torch.distributions.Normal(0.0, 1.0).log_prob(rows).T)


def test_fewer_rows_than_components_are_refused():
    with pytest.raises(ValueError, match="at least 3 rows of positive weight"):
        fit_mixtures(torch.zeros(4, 1), torch.tensor([[1.0, 1.0, 0.0, 0.0]]), 3, ridge=1.0)
