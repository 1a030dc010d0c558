"""Pyro models as unnormalised densities, against closed forms and Pyro's own potential."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.mcmc.util import initialize_model

import drl_density as drl
from drl_density.distributions.pyro_models import joint_density
from drl_density.testing import assert_z, seeded_generator

Y = torch.tensor([0.3, -1.1, 2.0, 0.7], dtype=torch.float64)
ZERO, ONE = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)


def conjugate(y):
    """mean ~ N(0, 2^2), y ~ N(mean, 1): the evidence is Gaussian."""
    mean = pyro.sample("mean", dist.Normal(ZERO, 2.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def mixed(y):
    """Sites of every kind of support."""
    share = pyro.sample("share", dist.Beta(2 * ONE, 3 * ONE))
    scale = pyro.sample("scale", dist.LogNormal(ZERO, ONE))
    slopes = pyro.sample("slopes", dist.Normal(torch.zeros(3, dtype=torch.float64), 1.0).to_event(1))
    parts = pyro.sample("parts", dist.Dirichlet(torch.ones(3, dtype=torch.float64)))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(share + slopes @ parts, scale), obs=y)


def test_it_is_minus_pyros_potential():
    target = joint_density(mixed, Y)
    assert target.event_shape == (7,)
    u = torch.randn(5, 7, generator=seeded_generator(), dtype=torch.float64)
    _, potential, _, _ = initialize_model(mixed, model_args=(Y,))
    shapes = target.log_density.shapes
    for row, value in zip(u, target.log_prob(u), strict=True):
        parts = row.split([shape.numel() for shape in shapes.values()])
        sites = {name: part.reshape(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
        torch.testing.assert_close(value, -potential(sites))


def test_draws_go_back_to_the_sites():
    joint = joint_density(mixed, Y).log_density
    sites = joint.constrain(torch.randn(4, 6, 7, generator=seeded_generator(), dtype=torch.float64))
    assert {name: tuple(value.shape) for name, value in sites.items()} == {
        "share": (4, 6),
        "scale": (4, 6),
        "slopes": (4, 6, 3),
        "parts": (4, 6, 3),
    }
    assert bool((sites["share"] > 0).all() and (sites["share"] < 1).all())
    torch.testing.assert_close(sites["parts"].sum(-1), torch.ones(4, 6, dtype=torch.float64))


def test_evidence_and_posterior_of_a_conjugate_model():
    """By quadrature on a grid of 2,001 points over 20 posterior spreads: the rule's error is far below 1e-6."""
    target = joint_density(conjugate, Y)
    covariance = torch.eye(4, dtype=torch.float64) + 4.0
    exact = dist.MultivariateNormal(torch.zeros(4, dtype=torch.float64), covariance).log_prob(Y)
    grid = torch.linspace(-5, 5, 2001, dtype=torch.float64)[:, None]
    values = target.log_prob(grid)
    torch.testing.assert_close(values.logsumexp(0) + math.log(0.005), exact)
    mean = (values.softmax(0) * grid[:, 0]).sum()
    torch.testing.assert_close(mean, Y.sum() / 4.25)


def test_chains_of_a_model_run_side_by_side():
    sampler = drl.ChainSampler(num_warmup=30, num_steps=20)
    draws = joint_density(conjugate, Y).with_sampler(sampler).sample((300,))
    assert_z(draws[:, 0], float(Y.sum()) / 4.25)


def test_improper_priors_need_no_draw():
    def flat():
        scale = pyro.sample("scale", dist.ImproperUniform(dist.constraints.positive, (), ()))
        pyro.sample("y", dist.Normal(ZERO, scale), obs=torch.tensor(2.0, dtype=torch.float64))

    target = joint_density(flat)
    exact = float(dist.Normal(ZERO, math.e).log_prob(2 * ONE)) + 1.0
    assert float(target.log_prob(torch.ones(1, 1).double())) == pytest.approx(exact)


def test_what_is_no_density_is_refused():
    with pytest.raises(ValueError, match="has none"):
        joint_density(lambda: pyro.sample("y", dist.Normal(ZERO, 1.0), obs=ONE))
    with pytest.raises(ValueError, match="'which' is discrete"):
        joint_density(lambda: pyro.sample("which", dist.Bernoulli(0.5 * ONE)))
