"""Discrete sites: their sums, and draws of them given the continuous sites."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from drl_density.distributions.pyro_models.enumeration import check_shapes, draw_discrete, log_joint, with_enumeration
from drl_density.distributions.pyro_models.joint import joint_density
from drl_density.distributions.pyro_models.layout import examine_model
from drl_density.testing import assert_z
from tests.distributions.pyro_models.quadrature import log_evidence

Y = torch.tensor([-2.0, 0.3, 2.5, 1.9], dtype=torch.float64)
WEIGHTS = torch.tensor([0.25, 0.75], dtype=torch.float64)


def mixture():
    """Two components at -2 and at an unknown place."""
    mean = pyro.sample("mean", dist.Normal(1.0, 1.0))
    with pyro.plate("rows", 4):
        kind = pyro.sample("kind", dist.Categorical(WEIGHTS))
        pyro.sample("y", dist.Normal(torch.where(kind == 0, -2.0, mean), 1.0), obs=Y)


def test_a_mixture_has_the_density_of_its_marginal():
    def marginal():
        mean = pyro.sample("mean", dist.Normal(1.0, 1.0))
        places = torch.stack([torch.full_like(mean, -2.0), mean])
        parts = dist.MixtureSameFamily(dist.Categorical(WEIGHTS), dist.Normal(places, 1.0))
        pyro.sample("y", parts.expand([4]).to_event(1), obs=Y)

    summed, written = joint_density(mixture), joint_density(marginal)
    assert summed.log_density.method == "vmap"
    u = torch.linspace(-30, 30, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(summed.log_prob(u), written.log_prob(u))
    assert log_evidence(summed) == pytest.approx(log_evidence(written), abs=1e-9)


def test_discrete_values_are_drawn_given_the_continuous_ones():
    """P(kind | mean, y) by Bayes' rule, for every row, over 150 draws."""
    layout = examine_model(mixture, (), {})
    mean = torch.tensor(1.5, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = torch.stack([draw_discrete(mixture, ((), {}), layout, {"mean": mean})["kind"] for _ in range(150)])
    odds = WEIGHTS.log()[:, None] + torch.stack([dist.Normal(-2.0, 1.0).log_prob(Y), dist.Normal(mean, 1.0).log_prob(Y)])
    share = odds.softmax(0)[1]
    assert_z(draws.double().mean(0), share, (share * (1 - share) / 150).sqrt())


@pytest.mark.parametrize("num_rows", [2, 4])
def test_dimensions_that_no_plate_declares_are_refused(num_rows):
    """Two rows could be mistaken for the two values of the discrete site."""

    def model():
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        kind = pyro.sample("kind", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(mean + kind, 1.0), obs=Y[:num_rows])

    with pytest.raises(ValueError, match=r'sites kind cannot be summed out together \(at site "y", invalid .*by pyro.plate'):
        joint_density(model)


def test_a_model_without_discrete_sites_is_left_alone():
    def model():
        return pyro.sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    layout = examine_model(model, (), {})
    assert with_enumeration(model, layout) is model
    trace = pyro.poutine.trace(model).get_trace()
    check_shapes(trace, layout)
    assert log_joint(trace, layout) == trace.log_prob_sum()
