"""The numbers of a report."""

import math

import pytest
import torch


def test_numbers_hang_together(report, tiny_density, tiny_data):
    assert report.log_z_lower < report.log_z < report.log_z_upper
    assert report.mean_log_likelihood_lower < report.mean_log_likelihood < report.mean_log_likelihood_upper
    width = report.log_z_upper - report.log_z_lower
    assert report.mean_log_likelihood_upper - report.mean_log_likelihood_lower == pytest.approx(width)
    assert report.log_likelihood.shape == (len(tiny_data.test),)
    normalized = tiny_density.distribution().normalize(report)
    torch.testing.assert_close(normalized.log_prob(tiny_data.test), report.log_likelihood, rtol=1e-6, atol=1e-6)
    assert report.bits_per_dim == pytest.approx(-report.mean_log_likelihood / 2 / math.log(2))
    torch.testing.assert_close(
        report.log_likelihood_upper - report.log_likelihood_lower, torch.full((40,), width).double()
    )


def test_audit_trail_adds_up(report):
    """Mean F + mean log |det J| - log Z is the mean log-likelihood, figure by figure as the trail prints them."""
    attributes = report.tree.attrs
    total = attributes["mean_model_log_density"] + attributes["mean_log_jacobian"] - report.log_z
    assert total == pytest.approx(report.mean_log_likelihood, abs=1e-9)
    trail = "\n".join(report.audit_trail)
    for figure in (attributes["mean_model_log_density"], attributes["mean_log_jacobian"], report.bits_per_dim):
        assert f"{figure:.4f}" in trail
    assert report.scheme in trail
