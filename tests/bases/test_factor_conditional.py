"""Conditionals of factor analysers against those of the Gaussian mixture with the same covariances."""

import pytest
import torch

from drl_density.bases import factor_conditional
from drl_density.bases.factor_conditional import weighted_gram
from drl_density.testing import assert_z, seeded_generator
from tests.bases.test_factor_analysers import pair

MASKS = torch.tensor(
    [
        [True, False, False, True, False],
        [False, True, True, True, True],
        [False, False, False, False, False],
        [True, True, True, True, True],
    ]
)


@pytest.mark.parametrize("log_snr", [None, 1.5])
def test_observed_densities_agree(log_snr):
    level = None if log_snr is None else torch.tensor(log_snr)
    laws = [base.conditional(level) for base in pair()]
    rows = torch.randn(4, 5, generator=seeded_generator(0), dtype=torch.float64)
    values = [law.observed_log_density(rows, MASKS) for law in laws]
    torch.testing.assert_close(*values, rtol=0, atol=2e-5)
    changed = torch.where(MASKS, 9.0, rows)
    assert torch.equal(laws[0].observed_log_density(changed, MASKS), values[0])


@pytest.mark.parametrize("index", range(4))
def test_draws_agree(index):
    """Means, products and cubes of two sets of draws: which component and which factors a draw has shows there."""
    row, mask = torch.randn(1, 5, generator=seeded_generator(1), dtype=torch.float64), MASKS[index]
    draws = [
        base.conditional().sample(row, mask[None], 20_000, generator=seeded_generator(seed))[0]
        for seed, base in enumerate(pair())
    ]
    assert torch.equal(draws[0][:, ~mask], row[:, ~mask].expand(len(draws[0]), -1))
    first, second = (torch.cat([each, (each[:, :, None] * each[:, None]).flatten(1), each**3], 1) for each in draws)
    error = ((first.var(0) + second.var(0)) / len(first)).sqrt()
    assert_z(first.mean(0) - second.mean(0), 0.0, error + 1e-9)


def test_rows_are_worked_on_in_shares(monkeypatch):
    law, rows = pair()[0].conditional(), torch.randn(4, 5, generator=seeded_generator(2), dtype=torch.float64)
    at_once = law.observed_log_density(rows, MASKS)
    monkeypatch.setattr(factor_conditional, "MOST_NUMBERS", 1)
    torch.testing.assert_close(law.observed_log_density(rows, MASKS), at_once, rtol=1e-12, atol=1e-12)
    assert law.sample(rows, MASKS, 3).shape == (4, 3, 5)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_weighted_gram_is_its_definition(count):
    """For fewer rows of weights than three quarters of the factors, and for more."""
    generator = seeded_generator(3)
    weights, loadings = torch.rand(count, 3, 6, generator=generator), torch.randn(3, 6, 4, generator=generator)
    truth = torch.einsum("nkd,kdr,kds->nkrs", weights, loadings, loadings)
    torch.testing.assert_close(weighted_gram(weights, loadings), truth, rtol=1e-5, atol=1e-5)
