"""Simulation-based calibration: ranks of the truth among NUTS draws of a Pyro model whose prior is an energy-based model."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS
from scipy import stats

import drl_density as drl
from drl_density.testing import GaussianMixtureSequence, seeded_generator
from drl_density.testing.statistics import NUM_SUITE_CHECKS, SUITE_FAILURE_RATE

NUM_SIMULATIONS, NUM_RANKED, NUM_BINS = 96, 11, 4
SYSTEM = GaussianMixtureSequence(
    torch.tensor([0.3, 0.7]).double(),
    torch.tensor([[-0.6, 0.3], [0.5, -0.2]]).double(),
    0.25 * torch.eye(2).double().expand(2, 2, 2),
    drl.NoiseSchedule.log_spaced(6, sigma_min=0.05),
)


def ranks(shift=0.0, *, thin=8, warmup_steps=60):
    """Ranks ``(simulation, quantity)`` of the true x_0, x_1 and log prior density among thinned draws.

    All simulations are rows of one plate, so that one NUTS run serves them all.
    """
    prior = SYSTEM.model.level(0.0)
    generator = seeded_generator(7)
    truth = SYSTEM.sample(NUM_SIMULATIONS, 0.0, generator=generator)
    noise = 0.7 * torch.randn(NUM_SIMULATIONS, generator=generator, dtype=torch.float64)
    y = truth.sum(-1) + noise + shift

    def model():
        with pyro.plate("simulations", NUM_SIMULATIONS):
            x = pyro.sample("x", prior)
            pyro.sample("y", dist.Normal(x.sum(-1), 0.7), obs=y)

    pyro.set_rng_seed(1)
    kernel = NUTS(model, max_tree_depth=4)
    mcmc = MCMC(
        kernel,
        num_samples=thin * NUM_RANKED,
        warmup_steps=warmup_steps,
        initial_params={"x": truth[torch.randperm(NUM_SIMULATIONS, generator=generator)]},
        disable_progbar=True,
    )
    mcmc.run()
    draws = mcmc.get_samples()["x"][thin - 1 :: thin]

    def quantities(x):
        flat = SYSTEM.model.log_density(x.reshape(-1, 2), 0).reshape(x.shape[:-1])
        return torch.cat([x, flat[..., None]], -1)

    return (quantities(draws) < quantities(truth)).sum(0)


def p_values(found):
    """Chi-square p-value of every quantity's ranks against uniformity, in ``NUM_BINS`` bins of equal width."""
    counts = torch.stack(
        [torch.bincount(column * NUM_BINS // (NUM_RANKED + 1), minlength=NUM_BINS) for column in found.T]
    )
    return [float(stats.chisquare(row.numpy()).pvalue) for row in counts]


def test_ranks_are_uniform_and_a_wrong_likelihood_shows():
    allowed = SUITE_FAILURE_RATE / NUM_SUITE_CHECKS
    assert min(p_values(ranks())) > allowed
    # Draws that are hardly thinned spread the ranks less evenly still, but a wrong likelihood moves all of them to one end.
    wrong = ranks(shift=2.0, thin=2, warmup_steps=30)
    assert min(p_values(wrong)) < allowed
    assert float(wrong[:, :2].double().mean()) / NUM_RANKED < 0.4
