"""Fitted densities, and all distributions made of them, as sites of Pyro models: kernels, guides, plates and Predictive."""

import copy
import dataclasses
import math
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import HMC, MCMC, NUTS, SVI, Predictive, Trace_ELBO, autoguide
from pyro.infer.autoguide import initialization
from pyro.infer.mcmc.util import initialize_model
from torch.distributions import biject_to

import drl_density as drl
from drl_density.datasets import Column
from tests.density.closed_form import SYSTEM, closed_form_density
from tests.transforms.cases import with_cells

COLUMNS = (
    Column("count", "count", 1.0, lower=0.5, upper=5.5, values=(1.0, 2.0, 5.0)),
    Column("size", lower=0.0),
    Column("share", lower=0.0, upper=1.0),
)
SHORT = drl.ChainSampler(num_warmup=3, num_steps=3)
FAR = 40.0
"""Model-space states at which a share is 1 up to rounding and a size beyond float32."""


@pytest.fixture(scope="module")
def density():
    """The closed-form mixture of two Gaussians behind marginals of a count, a positive size and a share."""
    made = closed_form_density(columns=COLUMNS)
    transform = with_cells().select(torch.tensor([1, 2, 3]))
    return dataclasses.replace(made, transform=transform, pool=transform.inv(made.transform(made.pool)))


@pytest.fixture(scope="module")
def prior(density):
    return density.distribution()


@pytest.fixture(autouse=True)
def _seeded():
    pyro.set_rng_seed(0)
    pyro.clear_param_store()


def states():
    far = torch.full((2, 3), FAR, dtype=torch.float64) * torch.tensor([[1.0], [-1.0]]).double()
    return torch.cat([torch.randn(6, 3, dtype=torch.float64), far])


def potential_of(model, **options):
    """(value and gradient of Pyro's potential energy of site x at unconstrained states, the site's first state)."""
    first, potential, transforms, _ = initialize_model(model, **options)

    def evaluate(u):
        point = u.clone().requires_grad_(True)
        value = potential({**first, "x": point})
        return value.detach(), torch.autograd.grad(value, point)[0]

    return evaluate, first["x"], transforms["x"]


def test_pyro_moves_in_the_densitys_own_model_space(prior):
    """The potential energy is minus the closed-form log density of model-space states, in the tails too."""
    evaluate, _, _ = potential_of(lambda: pyro.sample("x", prior))
    law = SYSTEM.marginal(0)
    for u in states():
        value, gradient = evaluate(u)
        point = u.clone().requires_grad_(True)
        exact = -law.log_prob(point)
        (slope,) = torch.autograd.grad(exact, point)
        if float(u.abs().max()) < FAR:
            torch.testing.assert_close(value, exact.detach(), rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-6)
        else:
            assert bool(value > 0.4 * u.square().sum())
            assert bool((gradient * u).sum() > 0)  # back to the body
        assert bool(value.isfinite() & gradient.isfinite().all())


@pytest.mark.parametrize("kernel", [NUTS, HMC])
def test_kernels_stay_inside(kernel, prior):
    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", dist.Normal(x[..., 2], 0.1), obs=torch.tensor(0.999))

    options = {"max_tree_depth": 4} if kernel is NUTS else {"num_steps": 4, "step_size": 0.1, "adapt_step_size": False}
    mcmc = MCMC(kernel(model, **options), num_samples=8, warmup_steps=8, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()["x"]
    assert draws.dtype == torch.float64
    assert bool(prior.support.check(draws).all())
    again = Predictive(model, mcmc.get_samples())()
    assert again["y"].shape == (8,)


def by_hand(prior):
    def guide():
        loc = pyro.param("loc", torch.zeros(3, dtype=torch.float64))
        scale = pyro.param("scale", torch.ones(3).double(), constraint=dist.constraints.positive)
        maps = [biject_to(prior.support)]
        pyro.sample("x", dist.TransformedDistribution(dist.Normal(loc, scale).to_event(1), maps))

    return guide


def guide_list(model):
    guides = autoguide.AutoGuideList(model)
    guides.append(autoguide.AutoNormal(poutine.block(model, expose=["x"])))
    guides.append(autoguide.AutoDelta(poutine.block(model, expose=["scale"])))
    return guides


GUIDES = {
    "normal": autoguide.AutoNormal,
    "diagonal": autoguide.AutoDiagonalNormal,
    "full": autoguide.AutoMultivariateNormal,
    "low rank": autoguide.AutoLowRankMultivariateNormal,
    "flow": autoguide.AutoIAFNormal,
    "delta": autoguide.AutoDelta,
    "laplace": autoguide.AutoLaplaceApproximation,
    "structured": autoguide.AutoStructured,
    "list": guide_list,
    "by hand": None,
}


@pytest.mark.parametrize("name", GUIDES)
def test_guides_learn_and_stay_inside(name, prior):
    def model():
        if name == "list":
            pyro.sample("scale", dist.HalfNormal(torch.tensor(1.0).double()))
        x = pyro.sample("x", prior)
        pyro.sample("y", dist.Normal(x[..., 2], 0.1), obs=torch.tensor(0.999))

    make = GUIDES[name]
    guide = by_hand(prior) if make is None else make(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step() for _ in range(3)]
    assert all(map(math.isfinite, losses))
    assert all(bool(value.isfinite().all()) for value in pyro.get_param_store().values())
    found = Predictive(model, guide=guide, num_samples=3)()["x"]
    assert bool(prior.support.check(found.reshape(-1, 3)).all())


@pytest.mark.parametrize("name", ["sample", "median", "feasible", "uniform", "mean"])
def test_chains_start_inside_by_any_strategy(name, prior):
    strategy = getattr(initialization, f"init_to_{name}")
    evaluate, first, to_reals = potential_of(lambda: pyro.sample("x", prior), init_strategy=strategy)
    assert bool(prior.support.check(to_reals.inv(first)))
    assert bool(evaluate(first)[0].isfinite())


def plated(prior):
    with pyro.plate("rows", 4):
        return pyro.sample("x", prior)


SHAPES = {
    "plate": (plated, (4, 3)),
    "event": (lambda prior: pyro.sample("x", prior.expand([4]).to_event(1)), (4, 3)),
    "mask": (lambda prior: pyro.sample("x", prior.expand([4]).mask(torch.ones(4, dtype=torch.bool))), (4, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_batches_add_up(name, prior):
    model, shape = SHAPES[name]
    evaluate, first, _ = potential_of(lambda: model(prior))
    assert first.shape == shape
    u = states()[-4:]
    single, _, _ = potential_of(lambda: pyro.sample("x", prior))
    torch.testing.assert_close(evaluate(u)[0], sum(single(row)[0] for row in u), rtol=1e-9, atol=1e-9)
    assert Predictive(lambda: model(prior), num_samples=2)()["x"].shape == (2, *shape)


def test_vectorised_predictions_are_draws(prior):
    found = Predictive(lambda: pyro.sample("x", prior), num_samples=5, parallel=True)()["x"]
    assert found.shape == (5, 3)
    assert bool(prior.support.check(found).all())


SITES = {
    "conditional": lambda density, prior: density.condition({"count": 2.0}),
    "expanded": lambda density, prior: prior.expand((2,)).to_event(1),
    "unnormalised": lambda density, prior: drl.EnergyDistribution(
        prior.log_density, (3,), support=prior.support, sampler=SHORT
    ),
    "product": lambda density, prior: drl.product([prior, prior], weights=[0.5, 0.5], sampler=SHORT),
    "tempered": lambda density, prior: drl.tempered(prior, 1.0).with_sampler(SHORT),
    "mixture": lambda density, prior: drl.Mixture([prior, density.distribution()], [1.0, 2.0]),
    "excluding": lambda density, prior: drl.excluding(prior, prior, floor=1e-3).with_sampler(SHORT),
    "guided": lambda density, prior: drl.distributions.guided(
        prior, drl.Mixture([prior, density.distribution()], [1.0, 1.0]), 0.5
    ).with_sampler(SHORT),
    "level": lambda density, prior: density.model.level(2).with_sampler(SHORT),
    "recovery": lambda density, prior: (
        density.model.recovery(1).condition(torch.zeros(2, 3).double()).with_sampler(SHORT).to_event(1)
    ),
    "posterior by a factor": lambda density, prior: drl.product(
        [prior, dist.Normal(torch.ones(3).double(), 1.0).to_event(1)], is_integrable=True, sampler=SHORT
    ),
}


@pytest.mark.parametrize("name", SITES)
def test_every_distribution_of_ours_is_a_site(name, density, prior):
    made = SITES[name](density, prior)
    evaluate, first, to_reals = potential_of(lambda: pyro.sample("x", made))
    for sign in (1.0, -1.0):
        for size in (0.3, 6.0):
            u = torch.full_like(first, sign * size)
            value, gradient = evaluate(u)
            inside = made.support.check(to_reals.inv(u))
            assert bool(inside.all())
            assert bool(value.isfinite() & gradient.isfinite().all())


def test_a_column_with_labels_is_dequantised(density, prior):
    """Within the cell of a label the density is that of the fit, and nothing lies between the cells."""
    row = torch.tensor([[2.0, 1.0, 0.5], [2.4, 1.0, 0.5], [3.0, 1.0, 0.5]], dtype=torch.float64)
    assert prior.support.check(row).tolist() == [True, True, False]
    with pyro.validation_enabled(False):
        values = density.distribution().log_prob(row)
    assert values[2] == -math.inf
    assert float(density.log_prob(row[:1])) == pytest.approx(float(values[0]), abs=1e-9)
    draws = density.to_points(density.transform(prior.sample((9,))))
    assert set(draws[:, 0].tolist()) <= {1.0, 2.0, 5.0}
    assert bool(prior.log_prob(torch.tensor([2, 1, 0]).double() + torch.tensor([0.0, 0.0, 0.5])).isfinite())


def test_a_site_in_float32(density):
    small = density.distribution(dtype=torch.float32)
    assert small.sample((3,)).dtype == small.sample((20,)).dtype == torch.float32
    evaluate, first, to_reals = potential_of(lambda: pyro.sample("x", small))
    assert first.dtype == torch.float32
    for u in states().float():
        value, gradient = evaluate(u)
        assert bool(small.support.check(to_reals.inv(u)))
        assert bool(value.isfinite() & gradient.isfinite().all())


def test_an_observed_row_counts_its_log_density(density, prior):
    row = density.pool[0]
    trace = poutine.trace(lambda: pyro.sample("x", prior, obs=row)).get_trace()
    assert float(trace.log_prob_sum()) == pytest.approx(float(prior.log_prob(row)))


def test_sites_survive_pickle_and_copies(prior):
    row = prior.sample()
    for again in (pickle.loads(pickle.dumps(prior)), copy.deepcopy(prior)):
        assert torch.equal(again.log_prob(row), prior.log_prob(row))
        trace = poutine.trace(lambda again=again: pyro.sample("x", again)).get_trace()
        assert bool(prior.support.check(trace.nodes["x"]["value"]))


def test_the_joint_density_of_a_model_with_a_fitted_prior(prior):
    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", dist.Normal(x[2], 0.1), obs=torch.tensor(0.5).double())

    target = drl.joint_density(model)
    evaluate, _, _ = potential_of(model)
    u = states()
    torch.testing.assert_close(target.log_prob(u), -torch.stack([evaluate(row)[0] for row in u]), rtol=1e-9, atol=1e-9)
    assert bool(prior.support.check(target.log_density.constrain(u)["x"]).all())
