"""Conditional sampling against closed forms: weights of separated modes, normalisers of slices, patterns that differ."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.inverse_problems import ConditionalSettings, plan_conditional, sample_conditional
from drl_density.testing import assert_z, seeded_generator

WEIGHTS = torch.tensor([0.5, 0.3, 0.2])
MEANS = torch.tensor([[-1.5, -1.0, 0.5], [1.5, -1.2, 0.0], [0.2, 1.4, -1.0]])
FACTORS = 0.35 * torch.eye(3).expand(3, 3, 3) + 0.1 * torch.tril(torch.ones(3, 3))
COVARIANCES = FACTORS @ FACTORS.mT


class Offset(torch.nn.Module):
    """A constant of 2 at every level, so that normalisers which forget it are found out."""

    has_bounded_growth = True

    def __init__(self):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x, log_snr):
        return self.value.expand(len(x))


@pytest.fixture(scope="module")
def model():
    base = NoisedGaussianMixture(WEIGHTS, MEANS, COVARIANCES)
    return drl.EnergySequence(drl.NoiseSchedule.log_spaced(8), Offset(), (3,), base=base)


def noised(model):
    """Components of level 0: (weights, means, covariances)."""
    alpha, sigma = float(model.schedule.alpha_at(0)), float(model.schedule.sigma_at(0))
    return WEIGHTS.double(), alpha * MEANS.double(), alpha**2 * COVARIANCES.double() + sigma**2 * torch.eye(3).double()


def exact(model, value, observed, missing):
    """(log density of the observed coordinates, weights, means) of the conditional at level 0."""
    weights, means, covariances = noised(model)
    o, m = torch.tensor(observed), torch.tensor(missing)
    logs, centers = [], []
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        block = covariance[o][:, o]
        law = torch.distributions.MultivariateNormal(mean[o], block)
        logs.append(weight.log() + law.log_prob(value))
        centers.append(mean[m] + covariance[m][:, o] @ torch.linalg.solve(block, value - mean[o]))
    logs = torch.stack(logs)
    return float(logs.logsumexp(0)), logs.softmax(0), torch.stack(centers)


def run(model, rows, mask, num_draws, **settings):
    generator = seeded_generator(0)
    picked = torch.multinomial(WEIGHTS, 500, replacement=True, generator=generator)
    noise = torch.einsum("nij,nj->ni", FACTORS[picked], torch.randn(500, 3, generator=generator))
    draws = model.schedule.diffuse(MEANS[picked] + noise, 0, generator=generator)
    settings = ConditionalSettings(**settings)
    plan = plan_conditional(model, draws, rows, mask, settings=settings, generator=generator)
    return sample_conditional(model, rows, mask, num_draws, plan=plan, settings=settings, generator=generator)


def test_modes_of_a_conditional_get_their_weights(model):
    """Given the second coordinate alone, two separated modes remain on the first."""
    value = torch.tensor([-1.1])
    rows, mask = torch.tensor([[0.0, -1.1, 0.0]]), torch.tensor([[True, False, True]])
    result = run(model, rows, mask, 2000, num_particles=2000, num_replicates=4)
    log_density, weights, means = exact(model, value.double(), [1], [0, 2])
    share = (result.draws[0, :, 0] < 0).double()
    assert_z(float(share.mean()), float(weights[0]), 3 * float(share.std()) / math.sqrt(2000))
    assert float(weights[0]) > 0.4
    mean = weights @ means
    assert float((result.draws[0][:, [0, 2]].double().mean(0) - mean).abs().max()) < 0.15
    assert bool((result.draws[0, :, 1] == rows[0, 1]).all())
    assert_z(float(result.log_z[0]), log_density + 2.0, float(result.standard_error[0]) + 0.005)


def test_every_row_has_its_own_pattern(model):
    rows = torch.tensor([[-1.5, 0.0, 0.0], [0.0, 1.4, -1.0], [1.5, 0.0, 0.1]])
    mask = torch.tensor([[False, True, True], [True, False, False], [False, True, False]])
    result = run(model, rows, mask, 400, num_particles=128, num_replicates=8, max_rows=2048)
    for index in range(3):
        observed, missing = (~mask[index]).nonzero().flatten().tolist(), mask[index].nonzero().flatten().tolist()
        log_density, weights, means = exact(model, rows[index][observed].double(), observed, missing)
        found = result.draws[index][:, missing].double().mean(0)
        assert float((found - weights @ means).abs().max()) < 0.15
        assert abs(float(result.log_z[index]) - log_density - 2.0) < 5 * float(result.standard_error[index]) + 0.02
    assert torch.equal(
        result.draws[~mask[:, None].expand_as(result.draws)],
        rows[:, None].expand_as(result.draws)[~mask[:, None].expand_as(result.draws)],
    )
    assert float(result.r_hat.max()) < 1.2
    assert bool((result.acceptance_rate > 0.3).all())


def test_wrong_masks_are_refused(model):
    rows = torch.zeros(2, 3)
    for mask in (torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.bool)):
        with pytest.raises(ValueError, match="at least one missing and one observed"):
            run(model, rows, mask, 3)
    with pytest.raises(ValueError, match="expected rows and mask"):
        run(model, rows, torch.zeros(1, 3, dtype=torch.bool), 3)
    with pytest.raises(ValueError, match="adjusted kernel"):
        ConditionalSettings(kernel=drl.ULA())
    with pytest.raises(ValueError, match="num_particles must be at least 2"):
        ConditionalSettings(num_particles=1)
