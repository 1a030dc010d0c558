"""Transitions of missing coordinates leave the model's own conditional invariant and move to it."""

import pytest
import torch

from drl_density.bases import NoisedGaussianMixture
from drl_density.inverse_problems import MissingMoveSettings, move_missing
from drl_density.testing import assert_z, seeded_generator
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
