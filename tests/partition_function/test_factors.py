"""Factors of covariances, sound or left indefinite by rounding."""

import pytest
import torch

from drl_density.errors import NumericalError
from drl_density.partition_function.factors import covariance_factor


def test_a_sound_covariance_has_its_cholesky_factor():
    covariance = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    torch.testing.assert_close(covariance_factor(covariance), torch.linalg.cholesky(covariance), rtol=0, atol=0)


def test_an_indefinite_covariance_has_a_triangular_factor_with_its_variances():
    """Deviations of 1e-6 and 1e6 and a correlation of 1 beyond rounding, beside a sound covariance."""
    deviations = torch.tensor([1e-6, 1e6]).double()
    broken = deviations[:, None] * torch.tensor([[1.0, 1.0 + 1e-9], [1.0 + 1e-9, 1.0]]).double() * deviations
    factors = covariance_factor(torch.stack([broken, torch.eye(2).double()]))
    assert float(factors[0].diagonal().min()) > 0
    assert float(factors[0, 0, 1]) == 0
    torch.testing.assert_close(factors[0] @ factors[0].T, broken, rtol=1e-8, atol=0)
    torch.testing.assert_close(factors[1], torch.eye(2).double())


def test_a_repaired_factor_has_a_positive_diagonal():
    loadings = torch.randn(50, 4, 2, generator=torch.Generator().manual_seed(0)).double()
    singular = loadings @ loadings.mT - 1e-12 * torch.eye(4).double()  # rank two, and just indefinite
    factors = covariance_factor(singular)
    assert float(factors.diagonal(dim1=1, dim2=2).min()) > 0
    torch.testing.assert_close(factors @ factors.mT, singular, rtol=0, atol=1e-9)


def test_a_covariance_that_is_not_finite_is_named():
    with pytest.raises(NumericalError, match="diverged"):
        covariance_factor(torch.full((2, 2), torch.inf))
