"""Bases fitted to pilot draws, the local kernel, and sandwiches of targets whose scale differs from place to place."""

import math
import warnings

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

import drl_density as drl
from drl_density.mcmc import init_state
from drl_density.partition_function.target_bases.fitted_base import DefendedBase, MixtureBase, ProductBase, fit_base
from drl_density.partition_function.target_bases.local_kernel import LocalMALA
from drl_density.partition_function.target_bases.scale_base import ScaleBase, ScaleRegression
from drl_density.testing import assert_z, seeded_generator

LIKE = torch.empty(0, dtype=torch.float64)


def funnel(x):
    """Neal's funnel, normalised: the spread of the others is exp(first / 2)."""
    first, rest = x[..., 0], x[..., 1:]
    inner = -0.5 * (rest.square() * torch.exp(-first)[..., None] + first[..., None] + math.log(2 * math.pi)).sum(-1)
    return Normal(0.0, 3.0, validate_args=False).log_prob(first) + inner


def mixture(seed=0):
    generator = seeded_generator(seed)
    factors = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
    covariances = 0.1 * torch.eye(2).double() + factors @ factors.mT
    means = 2 * torch.randn(3, 2, generator=generator, dtype=torch.float64)
    return torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64), means, covariances


def test_mixture_density_and_draws():
    weights, means, covariances = mixture()
    base = MixtureBase(weights, means, covariances, LIKE)
    exact = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))
    x = base.draw(20_000, seeded_generator(1))
    torch.testing.assert_close(base.log_prob(x), exact.log_prob(x), rtol=1e-9, atol=1e-9)
    assert_z(x[:, 0], float((weights * means[:, 0]).sum()))
    second = covariances[:, 0, 1] + means[:, 0] * means[:, 1]
    assert_z(x[:, 0] * x[:, 1], float((weights * second).sum()))


def test_product_density_and_draws():
    weights = torch.tensor([[0.3, 1.0], [0.7, 0.0]], dtype=torch.float64)  # a component without weight is no component
    means, spreads = torch.tensor([[-1.0, 0.5], [2.0, 9.0]]).double(), torch.tensor([[0.4, 2.0], [1.0, 1.0]]).double()
    base = ProductBase(weights, means, spreads)
    x = base.draw(20_000, seeded_generator(2))
    one = MixtureSameFamily(Categorical(weights[:, 0]), Normal(means[:, 0], spreads[:, 0])).log_prob(x[:, 0])
    torch.testing.assert_close(base.log_prob(x), one + Normal(0.5, 2.0).log_prob(x[:, 1]), rtol=1e-9, atol=1e-9)
    assert_z(x[:, 0], 0.3 * -1.0 + 0.7 * 2.0)


def test_defended_base_is_one_normalised_density():
    """E_b[1 / b] over a box is its area: the mean of 1 / b over draws inside."""
    weights, means, covariances = mixture()
    narrow = MixtureBase(weights, means, 0.3 * covariances, LIKE)
    wide = MixtureBase(torch.ones(1), torch.zeros(1, 2), 9 * torch.eye(2)[None], LIKE)
    base = DefendedBase((narrow, wide), (0.6, 0.4), narrow)
    x = base.draw(20_000, seeded_generator(3))
    inside = (x.abs() < 2).all(1).double()
    assert_z(inside * (-base.log_prob(x)).exp(), 16.0)


def test_the_best_kind_is_kept():
    generator = seeded_generator(4)
    signs = 2.0 * torch.randint(0, 2, (4, 400, 6), generator=generator) - 1
    wells = signs + 0.2 * torch.randn(4, 400, 6, generator=generator)
    assert isinstance(fit_base(wells).parts[0], ProductBase)
    first = 3 * torch.randn(4, 400, 1, generator=generator)
    neck = torch.cat([first, (first / 2).exp() * torch.randn(4, 400, 5, generator=generator)], -1)
    base = fit_base(neck[..., [1, 0, 2, 3, 4, 5]])
    assert isinstance(base.parts[0], ScaleBase)
    assert base.local is base.parts[0].chart
    assert base.local.driver == 1
    crossed = torch.stack([first[..., 0], torch.where(neck[..., 1] > 0, 1.0, -1.0) * first[..., 0]], -1)
    base = fit_base(crossed + 0.1 * torch.randn(crossed.shape, generator=generator))
    assert base.local.num_components > 1
    assert base.parts[0] is base.local


def steered_rows(num_rows, seed):
    """The second coordinate steers scale and place of the others."""
    generator = seeded_generator(seed)
    z, noise = (torch.randn(num_rows, count, generator=generator, dtype=torch.float64) for count in (1, 2))
    mixed = torch.stack([noise[:, 0], 0.6 * noise[:, 0] + 0.8 * noise[:, 1]], 1)
    rest = (
        torch.tensor([1.0, 2.0]) + z * torch.tensor([0.5, -1.0]) + torch.exp(z * torch.tensor([1.0, -0.5]) / 2) * mixed
    )
    return torch.cat([rest[:, :1], z, rest[:, 1:]], 1)


def test_scale_regression_finds_what_made_the_rows():
    chart = ScaleRegression.fit(steered_rows(40_000, 6))
    assert chart.driver == 1
    torch.testing.assert_close(chart.location, torch.tensor([[1.0, 2.0], [0.5, -1.0]]).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(chart.log_variance, torch.tensor([[0.0, 0.0], [1.0, -0.5]]).double(), rtol=0, atol=0.05)
    correlation = chart.factor @ chart.factor.T
    torch.testing.assert_close(correlation, torch.tensor([[1.0, 0.6], [0.6, 1.0]]).double(), rtol=0, atol=0.03)


def test_scale_regression_is_a_map_with_its_jacobian():
    rows = steered_rows(500, 7)
    chart = ScaleRegression.fit(rows)
    unit = chart.to_unit(rows[:20])
    torch.testing.assert_close(chart.from_unit(unit), rows[:20], rtol=1e-10, atol=1e-10)
    for index in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda point: chart.from_unit(point[None])[0], unit[index])
        torch.testing.assert_close(chart.log_volume(unit)[index], torch.linalg.slogdet(jacobian)[1])
    point, x = unit.clone().requires_grad_(), rows[:20].clone().requires_grad_()
    (whole,) = torch.autograd.grad((chart.from_unit(point).sin().sum() + chart.log_volume(point).sum()), point)
    (inner,) = torch.autograd.grad(x.sin().sum(), x)
    torch.testing.assert_close(chart.pull_back(unit, inner), whole, rtol=1e-9, atol=1e-9)
    center, size = torch.tensor([3.0, -1.0, 2.0]).double(), torch.tensor([2.0, 0.5, 4.0]).double()
    torch.testing.assert_close(chart.in_units(center, size).to_unit(center + size * rows[:20]), unit)


def test_scale_base_is_one_normalised_density():
    """E_b[1 / b] over a box is its volume, with a driver that is not normal."""
    chart = ScaleRegression.fit(steered_rows(2_000, 8)).widened(1.3)
    two = torch.tensor([[0.4], [0.6]]).double()
    base = ScaleBase(chart, ProductBase(two, 3 * two - 1.5, 0.5 + two))
    x = base.draw(40_000, seeded_generator(9))
    inside = ((x - torch.tensor([1.0, 0.0, 2.0])).abs() < 1).all(1).double()
    assert_z(inside * (-base.log_prob(x)).exp(), 8.0)


def mixture_of_slices(x):
    """A mixture that follows a funnel slice by slice, where :func:`fit_base` would take the regression."""
    slices = x[x[:, 0].argsort()].chunk(6)
    means = torch.stack([rows.mean(0) for rows in slices])
    covariances = torch.stack([rows.T.cov() for rows in slices])
    local = MixtureBase(torch.full((6,), 1 / 6), means, covariances, LIKE)
    return DefendedBase(
        (local, MixtureBase(torch.ones(1), x.mean(0)[None], 2 * x.T.cov()[None], LIKE)), (0.9, 0.1), local
    )


def test_a_coordinate_that_does_not_vary_still_gets_a_base():
    draws = torch.randn(4, 200, 3, generator=seeded_generator(10))
    draws[..., 2] = 1.5
    base = fit_base(draws)
    assert not isinstance(base.parts[0], ScaleBase)
    assert bool(base.log_prob(draws.flatten(0, 1)).isfinite().all())


@pytest.mark.parametrize("has_jumps", [True, False], ids=["jumps", "local moves alone"])
@pytest.mark.parametrize("fitted", [fit_base, mixture_of_slices], ids=["regression", "mixture"])
def test_local_kernel_leaves_its_target_alone(fitted, has_jumps):
    """Exact draws of a funnel stay exact: moments of its first coordinate, spread 3, known in closed form."""
    generator = seeded_generator(5)
    first = 3 * torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    x = torch.cat([first, (first / 2).exp() * torch.randn(20_000, 3, generator=generator, dtype=torch.float64)], -1)
    base = fitted(x.reshape(4, -1, 4)[:, :500] if fitted is fit_base else x[:2000])
    assert isinstance(base.local, ScaleRegression if fitted is fit_base else MixtureBase)
    kernel = LocalMALA(base, has_jumps=has_jumps)
    state = init_state(x, funnel)
    sizes = 2.0 * 10 ** -torch.rand(len(x), generator=generator, dtype=torch.float64)
    for _ in range(20):
        state, info = kernel.step(state, funnel, sizes, generator)
    assert float(info.is_accepted.double().mean()) > 0.2
    assert float((state.position != x).any(1).double().mean()) > 0.9
    moved = state.position[:, 0] / 3
    for value, truth in ((moved, 0.0), (moved.square(), 1.0), ((moved < -1).double(), 0.15865525)):
        assert_z(value, truth)
    rest = state.position[:, 1] * (-state.position[:, 0] / 2).exp()
    assert_z(rest.square(), 1.0)
    torch.testing.assert_close(state.log_density, funnel(state.position), rtol=1e-9, atol=1e-9)


def test_local_kernel_is_reversible():
    """E[f(x) g(x')] = E[g(x) f(x')] for exact draws x, as the weights of reverse walks need it. A jump always after the
    local move leaves the target alone as well, and fails here with a z-score of -8.7.
    """
    generator = seeded_generator(3)
    base = fit_base(torch.randn(4, 500, 1, generator=generator, dtype=torch.float64))

    def target(x):
        return -2 * (x - 1.5).square().sum(-1)

    x = 1.5 + 0.5 * torch.randn(400_000, 1, generator=generator, dtype=torch.float64)
    state, _ = LocalMALA(base).step(init_state(x, target), target, 0.3, generator)
    before, after = x[:, 0] - 1.5, state.position[:, 0] - 1.5
    assert_z(before * after**3 - before**3 * after, 0.0)


def test_funnel_is_covered_or_said():
    """With few particles the neck is missing at first; what draws still move as they mix is part of the error."""
    settings = drl.SandwichSettings(num_particles=64, num_replicates=4, num_mixing_steps=20, most_rounds=4)
    target = drl.EnergyDistribution.from_log_density(funnel, event_shape=(10,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
        result = drl.sandwich(target, base=dist.Normal(torch.zeros(10), 3.0).to_event(1), seed=0, settings=settings)
    assert len(result.details["log_z_by_round"]) >= 3
    early = result.estimates["Bennett's ratio, draws mixed a quarter as long"]
    assert result.standard_error >= 0.5 * abs(result.log_z - early[0])
    assert result.lower < 0 < result.upper or result.verdict != "reliable"
