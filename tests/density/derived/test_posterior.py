"""Posteriors and evidence against quadrature."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.errors import DataError, NumericalError

pytestmark = pytest.mark.usefixtures("short_ends")
AXIS = torch.linspace(-7, 7, 561, dtype=torch.float64)


CELL = float(AXIS[1] - AXIS[0]) ** 2


SMALL = drl.AISSettings(num_particles=256, num_replicates=4, num_transitions=3)


def log_likelihood(x):
    """One noisy look at the sum of both coordinates."""
    return torch.distributions.Normal(0.5, 0.4).log_prob(x.sum(-1))


def test_posterior_and_evidence_match_quadrature(tiny_density):
    found = tiny_density.posterior(log_likelihood, num_samples=800, settings=SMALL, seed=0)
    grid = torch.cartesian_prod(AXIS, AXIS)
    joint = tiny_density.log_prob(grid) + log_likelihood(grid)
    evidence = float(joint.logsumexp(0)) + math.log(CELL)
    assert abs(found.log_z - evidence) < 5 * found.standard_error + 0.02
    shares = (joint - joint.logsumexp(0)).exp()
    mean = (shares[:, None] * grid).sum(0)
    spread = (shares[:, None] * (grid - mean) ** 2).sum(0).sqrt()
    assert float(((found.draws.mean(0) - mean) / spread).abs().max()) < 6 / math.sqrt(800) + 0.05
    assert found.r_hat.shape == (2,)
    assert found.interval()[0] < found.log_z < found.interval()[1]


def over_the_sum(x):
    """Where the sum of both coordinates exceeds its middle."""
    return x.sum(-1) > 0.5


CUT = {
    "logs of 0 and 1": lambda x: over_the_sum(x).double().log(),
    "float32": lambda x: log_likelihood(x.float()),
    "without gradient": lambda x: log_likelihood(x.detach()),
}


@pytest.mark.parametrize("name", CUT)
def test_natural_likelihoods_give_the_evidence(name, tiny_density):
    found = tiny_density.posterior(CUT[name], num_samples=100, settings=SMALL, seed=1)
    grid = torch.cartesian_prod(AXIS, AXIS)
    evidence = float((tiny_density.log_prob(grid) + CUT[name](grid)).logsumexp(0)) + math.log(CELL)
    # The edge cuts cells of the grid in two, at most a hundredth of the mass.
    assert abs(found.log_z - evidence) < 5 * found.standard_error + 0.03
    assert bool(CUT[name](found.draws).isfinite().all())


def test_wrong_likelihoods_are_refused(tiny_density):
    with pytest.raises(DataError, match="one number per row"):
        tiny_density.posterior(lambda x: x)
    with pytest.raises(DataError, match="log_likelihood must be a function of rows .*, got Normal"):
        tiny_density.posterior(torch.distributions.Normal(0.0, 1.0))
    with pytest.raises(DataError, match=r"it gave \(3, 2\): sum what one row gives over the last dimensions"):
        tiny_density.posterior(lambda x: x)
    with pytest.raises(DataError, match=r"it gave \(\): it may sum over the rows too"):
        tiny_density.posterior(lambda x: x.sum())
    with pytest.raises(DataError, match=r"must return a tensor \(3,\), one number per row; it gave 0.0"):
        tiny_density.posterior(lambda x: 0.0)
    with pytest.raises(DataError, match=r"must return logarithms, it gave torch.bool: .* torch.where"):
        tiny_density.posterior(over_the_sum)
    with pytest.raises(ValueError, match="within the support") as caught:
        tiny_density.posterior(lambda x: torch.distributions.Uniform(50.0, 60.0).log_prob(x[:, 0]))
    assert "must give -inf, not an error" in caught.value.__notes__[0]
    with pytest.raises(NumericalError, match=r"lost its weight.*the likelihood was 0 at \d+ of \d+ rows"):
        tiny_density.posterior(lambda x: torch.where(x[:, 0] > 50.0, 0.0, -math.inf), num_samples=50, settings=SMALL)
    with pytest.raises(NumericalError, match="gave NaN"):
        tiny_density.posterior(lambda x: (x[..., 0] + 0.5).log(), num_samples=50, settings=SMALL)
    with pytest.raises(DataError, match="at least 2"):
        tiny_density.posterior(log_likelihood, num_samples=1)


def test_a_likelihood_may_be_zero_beyond_a_wall(tiny_density):
    """About half of the draws survive, and the evidence is their share."""

    def right_half(x):
        return torch.where(x[:, 0] > 0, 0.0, -math.inf) + 0 * x.sum(-1)

    found = tiny_density.posterior(right_half, num_samples=60, settings=SMALL, seed=0)
    assert bool((found.draws[:, 0] > 0).all())
    grid = torch.cartesian_prod(AXIS, AXIS)
    share = float(tiny_density.log_prob(grid[grid[:, 0] > 0]).logsumexp(0)) + math.log(CELL)
    assert abs(found.log_z - share) < 5 * found.standard_error + 0.02
