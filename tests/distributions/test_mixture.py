"""Mixtures of densities against closed forms."""

import pyro
import pyro.distributions as dist
import torch

import drl_density as drl
from drl_density.testing import assert_z

AXIS = torch.linspace(-8, 8, 3201, dtype=torch.float64)
FIRST = dist.Normal(torch.zeros(2), 1.0).to_event(1)
SECOND = dist.Normal(torch.ones(2), 0.5).to_event(1)
CLASSES = [dist.Normal(torch.tensor(-0.7).double(), 1.0), dist.Normal(torch.tensor(0.8).double(), 0.6)]


def test_a_mixture_of_class_densities_classifies():
    both = drl.Mixture(CLASSES, [0.4, 0.6])
    x = AXIS[::200]
    joint = torch.stack([0.4 * CLASSES[0].log_prob(x).exp(), 0.6 * CLASSES[1].log_prob(x).exp()], -1)
    torch.testing.assert_close(both.class_log_prob(x).exp(), joint / joint.sum(-1, keepdim=True), rtol=1e-6, atol=0)


def test_mixture_has_its_density_and_its_draws():
    mixture = drl.Mixture([FIRST, SECOND], [1.0, 3.0])
    x = torch.randn(4, 2)
    exact = torch.logsumexp(torch.stack([0.25 * FIRST.log_prob(x).exp(), 0.75 * SECOND.log_prob(x).exp()]).log(), 0)
    torch.testing.assert_close(mixture.log_prob(x), exact)
    draws = mixture.sample((4000,))
    assert_z(float(draws.mean()), 0.75, float(draws.std()) / 8000**0.5)

    def model():
        with pyro.plate("rows", 3):
            return pyro.sample("x", mixture)

    assert pyro.poutine.trace(model).get_trace().nodes["x"]["value"].shape == (3, 2)
