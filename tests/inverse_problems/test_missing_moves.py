"""Transitions of missing coordinates leave the model's own conditional invariant and move to it."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.bases import NoisedGaussianMixture
from drl_density.inverse_problems import MissingMoveSettings, move_missing
from drl_density.mcmc import ULA
from drl_density.testing import assert_z, gaussian_sequence, seeded_generator
from tests.density.closed_form import SYSTEM


def test_draws_move_to_the_models_own_conditional():
    """From a proposal that knows nothing of the target, both modes with their weights."""
    row, mask = torch.tensor([0.0, -0.35, 0.0]).double(), torch.tensor([True, False, True])
    prior = SYSTEM.marginal(0).component_distribution
    covariances = prior.covariance_matrix
    logs = SYSTEM.weights.log() + torch.distributions.Normal(prior.mean[:, 1], covariances[:, 1, 1].sqrt()).log_prob(
        row[1]
    )
    gain = covariances[:, :, 1] / covariances[:, 1, 1, None]
    mean = logs.softmax(0) @ (prior.mean + gain * (row[1] - prior.mean[:, 1])[:, None])
    proposal = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 3), 1.5 * torch.eye(3)[None]).conditional()
    x, many = row.repeat(3000, 1), mask.expand(3000, 3)
    generator = seeded_generator(3)
    for _ in range(8):
        x = move_missing(SYSTEM.model, proposal, x, many, generator=generator)
    assert torch.equal(x[:, 1], row[1].expand(3000))
    assert_z(x[:, mask], mean[mask])
    with pytest.raises(AssertionError, match="beyond"):
        assert_z(x[:, 0], mean[0] - 0.25 * x[:, 0].std())


def test_without_rounds_nothing_moves():
    x, mask = torch.zeros(4, 3, dtype=torch.float64), torch.tensor([True, False, True]).expand(4, 3)
    proposal = NoisedGaussianMixture.standard(3).conditional()
    settings = MissingMoveSettings(num_rounds=0)
    assert torch.equal(move_missing(SYSTEM.model, proposal, x, mask, settings=settings), x)


def test_without_kernel_steps_rows_are_present_values_or_proposals():
    """Only the choice among proposals is left: about one in num_proposals + 1 rows keeps its value, none is a mixture."""
    x, mask = torch.full((400, 3), 0.1, dtype=torch.float64), torch.tensor([True, True, False]).expand(400, 3)
    settings = MissingMoveSettings(num_rounds=1, num_proposals=1, num_steps=0)
    moved = move_missing(
        SYSTEM.model,
        NoisedGaussianMixture.standard(3).conditional(),
        x,
        mask,
        settings=settings,
        generator=seeded_generator(0),
    )
    is_kept = moved == x
    assert bool((is_kept[:, 0] == is_kept[:, 1]).all())
    assert bool(is_kept[:, 2].all())
    assert 0.05 < float(is_kept[:, 0].double().mean()) < 0.95


def test_completions_of_correlated_rows_become_draws_of_the_joint_density():
    """Rows that lack either coordinate, completed from independent columns, get back their covariance of 0.8."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    system = gaussian_sequence(torch.zeros(2), covariance, NoiseSchedule.log_spaced(4, sigma_min=0.1))
    generator = seeded_generator(0)
    rows = system.sample(4000, 0, generator=generator)
    is_missing = torch.rand(4000, 2, generator=generator) < 0.4
    is_missing[is_missing.all(1), 0] = False
    completed = torch.where(is_missing, torch.randn(rows.shape, generator=generator, dtype=rows.dtype), rows)
    assert abs(float(completed[is_missing.any(1)].T.corrcoef()[0, 1])) < 0.1
    proposal = NoisedGaussianMixture.standard(2).conditional()
    for _ in range(6):
        completed = move_missing(system.model, proposal, completed, is_missing, generator=generator)
    assert torch.equal(completed[~is_missing], rows[~is_missing])
    exact = system.marginal(0).component_distribution.covariance_matrix[0]
    products = torch.stack([completed[:, 0] ** 2, completed[:, 0] * completed[:, 1], completed[:, 1] ** 2], 1)
    assert_z(products, torch.stack([exact[0, 0], exact[0, 1], exact[1, 1]]))


def test_an_unadjusted_kernel_is_refused():
    with pytest.raises(ValueError, match="missing values needs an adjusted kernel"):
        MissingMoveSettings(kernel=ULA())
