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
from tests.distributions.pyro_models.quadrature import log_evidence

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


def masked(y, is_seen):
    """Rows of unit variance about one mean, some of them not observed."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y, obs_mask=is_seen)


def test_a_masked_observation_contributes_nothing():
    y, is_seen = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([True, False, True])
    target = joint_density(masked, y, is_seen)
    covariance = torch.eye(2, dtype=torch.float64) + 1.0
    exact = dist.MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance).log_prob(y[is_seen].double())
    assert float(exact) == pytest.approx(-3.387, abs=1e-3)
    assert log_evidence(target) == pytest.approx(float(exact), abs=1e-9)
    joint = target.log_density
    u = torch.zeros(300, 1, dtype=torch.float64)
    sites = joint.draw_sites(u, generator=seeded_generator())
    assert sites["y_unobserved"].isnan().tolist() == [is_seen.tolist()] * 300
    assert_z(sites["y_unobserved"][:, 1], 0.0)
    assert torch.equal(joint.draw_sites(u, generator=seeded_generator())["y_unobserved"][:, 1], sites["y_unobserved"][:, 1])
    expected = dist.Normal(0.0, 1.0).log_prob(y[is_seen].double())
    torch.testing.assert_close(joint.log_likelihood(u[:2])["y"], expected.expand(2, 2))


def counts(k):
    pyro.sample("k", dist.Multinomial(10, pyro.sample("p", dist.Dirichlet(torch.ones(3)))), obs=k)


def test_a_distribution_that_vmap_refuses_is_evaluated_by_plate():
    k = torch.tensor([3.0, 5.0, 2.0])
    target = joint_density(counts, k)
    assert target.log_density.method == "plate"
    exact = dist.DirichletMultinomial(torch.ones(3).double(), 10).log_prob(k.double())
    assert log_evidence(target, width=40.0) == pytest.approx(float(exact), abs=1e-6)
    assert target.log_density.constrain(torch.zeros(4, 5, 2).double())["p"].shape == (4, 5, 3)
    assert target.log_density.log_likelihood(torch.zeros(4, 2).double())["k"].shape == (4,)


def stubborn(y):
    """A mean that is positive by a branch; x @ w leaves no room for rows of particles."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    mean = mean if bool(mean > 0) else -mean
    pyro.sample("y", dist.Normal(torch.stack([mean, 2 * mean]), 1.0).to_event(1), obs=y)


def test_a_model_with_branches_is_evaluated_row_by_row_with_a_warning():
    with pytest.warns(drl.DRLDensityWarning, match="one after another, .* pyro.plate"):
        target = joint_density(stubborn, Y[:2])
    assert target.log_density.method == "loop"
    u = torch.tensor([[-0.7], [0.4]], dtype=torch.float64)
    means = torch.stack([u.abs(), 2 * u.abs()], -1)[:, 0]
    exact = dist.Normal(0.0, 1.0).log_prob(u[:, 0]) + dist.Normal(means, 1.0).log_prob(Y[:2]).sum(1)
    torch.testing.assert_close(target.log_prob(u), exact)
    assert target.log_density.constrain(u)["mean"].tolist() == u[:, 0].tolist()


X = torch.linspace(-1, 1, 4, dtype=torch.float32) / 3


def line(y, x=None):
    """With x of its own the design is a float32 tensor that no caller gave."""
    slope = pyro.sample("slope", dist.Normal(0.0, 0.1))
    curves = pyro.sample("curves", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    x = X if x is None else x
    pyro.sample("y", dist.Normal(slope * x + torch.stack([x**2, x**3], 1) @ curves, 1.0).to_event(1), obs=y)


def test_models_in_float32_are_evaluated_in_float64():
    u = torch.randn(3, 3, generator=seeded_generator(), dtype=torch.float64)
    own, given = joint_density(line, Y.float()), joint_density(line, Y.float().double(), x=X.double())
    assert (own.log_density.is_promoted, given.log_density.is_promoted) == (True, False)
    assert own.log_prob(u).dtype == own.log_prob(u.float()).dtype == torch.float64
    # X**2 and X**3 are float32 in one of them: 3 numbers of size 1 rounded to 6e-8 each, times curves and residuals below 4.
    torch.testing.assert_close(own.log_prob(u), given.log_prob(u), rtol=0, atol=1e-5)
    assert torch.get_default_dtype() == torch.float32


def test_improper_priors_are_named():
    def model():
        with pyro.poutine.mask(mask=False):
            flat = pyro.sample("flat", dist.Normal(0.0, 1.0))
        scale = pyro.sample("scale", dist.ImproperUniform(dist.constraints.positive, (), ()))
        proper = pyro.sample("proper", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(flat + proper, scale), obs=Y[0])

    joint = joint_density(model).log_density
    assert joint.improper_sites == ("flat", "scale")
    assert str(joint).startswith("JointDensity(")


def test_factors_keywords_and_nested_plates_are_part_of_the_density():
    def model(y, *, power):
        with pyro.plate("groups", 2, dim=-2):
            mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
            with pyro.plate("rows", 4, dim=-1):
                pyro.sample("y", dist.Normal(mean, 1.0), obs=y)
        pyro.factor("penalty", -power * (mean**2).sum())

    y = torch.stack([Y, -Y])
    target = joint_density(model, y, power=0.5)
    # Each group: precision 1 + 2 * 0.5 + 4, linear term sum(y).
    exact = sum(
        0.5 * float(row.sum()) ** 2 / 6 - 0.5 * math.log(6) - 0.5 * float(row @ row) - 2 * math.log(2 * math.pi) for row in y
    )
    assert log_evidence(target) == pytest.approx(exact, abs=1e-9)
    assert list(target.log_density.observations) == ["y"]
    assert target.log_density.log_likelihood(torch.zeros(3, 2).double())["y"].shape == (3, 2, 4)


def test_many_rows_are_evaluated_within_memory():
    """400,000 rows: chunks of particles, whose graphs hold 256 megabytes together; one more than a chunk is evaluated."""
    y = torch.zeros(400_000, dtype=torch.float64)
    target = joint_density(conjugate, y)
    joint = target.log_density
    assert joint.num_rows * y.numel() * 8 <= 2**28
    u = torch.linspace(-1, 1, joint.num_rows + 1, dtype=torch.float64)[:, None].requires_grad_(True)
    (slope,) = torch.autograd.grad(joint(u).sum(), u)
    torch.testing.assert_close(slope, -(0.25 + y.numel()) * u.detach())


@pytest.mark.parametrize(
    "prior",
    [
        dist.Gamma(2.0, 1.0),
        dist.Uniform(torch.tensor(-1.0), torch.tensor(3.0)),
        dist.Beta(2.0, 3.0),
        dist.Dirichlet(torch.ones(2)),
        dist.Dirichlet(torch.tensor([2.0, 0.5, 1.0])),
        dist.VonMises(0.3, 2.0),
        dist.HalfNormal(torch.tensor([1.0, 2.0])).to_event(1),
        dist.LKJCholesky(2, 1.5),
        dist.TransformedDistribution(
            dist.Normal(torch.tensor([0.0, 1.0]), 1.0).to_event(1), dist.transforms.OrderedTransform()
        ),
        dist.LogNormal(torch.tensor(0.0), 1.0),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_proper_priors_of_every_support_have_integral_one(prior):
    def model():
        return pyro.sample("x", prior)

    assert log_evidence(joint_density(model), width=30.0) == pytest.approx(0.0, abs=1e-6)


def test_triangular_matrices_have_a_coordinate_for_each_entry_of_the_triangle():
    prior = dist.ImproperUniform(dist.constraints.lower_cholesky, (), (2, 2))
    joint = joint_density(lambda: pyro.sample("factor", prior)).log_density
    assert joint.shapes == {"factor": (3,)}
    assert joint.constrain(torch.zeros(1, 3).double())["factor"].tolist() == [[[1, 0], [0, 1]]]


def test_small_shapes_of_a_dirichlet_keep_their_mass():
    """torch's own simplex clips at the rounding error of 1, which costs this density 1 % of its mass."""
    target = joint_density(lambda: pyro.sample("parts", dist.Dirichlet(torch.full((2,), 0.1))))
    assert log_evidence(target, width=500.0, num_points=20001) == pytest.approx(0.0, abs=1e-6)


def test_a_density_that_overflows_to_the_edge_is_minus_infinity_there():
    target = joint_density(lambda: pyro.sample("x", dist.Gamma(0.01, 1.0)))
    found = target.log_prob(torch.tensor([[-800.0], [-1.0]], dtype=torch.float64))
    assert found[0] == -math.inf
    assert found[1].isfinite()


def hidden(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.poutine.block():
        mean = mean + pyro.sample("hidden", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def branching(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    mean = mean if pyro.sample("kind", dist.Bernoulli(0.5)) == 1 else -mean
    pyro.sample("y", dist.Normal(mean + 1, 1.0), obs=y)


def test_what_is_no_density_is_refused():
    with pytest.raises(ValueError, match="has none"):
        joint_density(lambda: pyro.sample("y", dist.Normal(ZERO, 1.0), obs=ONE))
    with pytest.raises(ValueError, match="only discrete ones: which"):
        joint_density(lambda: pyro.sample("which", dist.Bernoulli(0.5 * ONE)))
    with pytest.raises(ValueError, match="random numbers that are no latent site in view.*poutine.block"):
        joint_density(hidden, Y[0])
    with pytest.raises(ValueError, match="discrete latent sites kind cannot be summed out together .*torch.where in place"):
        joint_density(branching, Y[0])
    with pytest.raises(ValueError, match="'y' holds 1 NaN among 2 values"):
        joint_density(conjugate, torch.tensor([1.0, math.nan]))


def test_a_model_may_be_examined_in_inference_mode():
    with torch.inference_mode():
        target = joint_density(conjugate, Y)
    assert target.log_density.method == "vmap"
