"""Training of diffusion samplers: unbiased gradients, recovery from lost bounds, a better control than none."""

import dataclasses
import math

import pyro.distributions as dist
import pytest
import torch

from drl_density import EnergyDistribution
from drl_density.diffusion_sampler import (
    DiffusionSampler,
    DiffusionSamplerSettings,
    Frame,
    train_diffusion_sampler,
)
from drl_density.diffusion_sampler.control import ControlNetwork
from drl_density.diffusion_sampler.training import UpperBound, _TargetChains
from drl_density.errors import TrainingFailed
from drl_density.testing import assert_z, seeded_generator

SMALL = DiffusionSamplerSettings(num_steps=6, width=8, num_chain_updates=5, num_chains=16, num_states=32)


def target(x):
    """N((0.5, -0.5), 0.4^2 I) times exp(2)."""
    return 2.0 + torch.distributions.Normal(torch.tensor([0.5, -0.5], dtype=torch.float64), 0.4).log_prob(x).sum(-1)


def network_of(log_density, settings, *, event=2, noise=0.3):
    """A control network whose last layer is disturbed, so that it is no longer zero."""
    network = ControlNetwork(log_density, event, settings, seeded_generator(0))
    with torch.no_grad():
        last = network.last.weight
        last.copy_(noise * torch.randn(last.shape, generator=seeded_generator(1), dtype=last.dtype))
    return network


def test_one_step_of_each_draw_estimates_the_upper_bound():
    """With the target's gradient mixed in or not."""
    settings = DiffusionSamplerSettings(num_steps=12, scale=0.8, width=8)
    sampler = DiffusionSampler(target, (2,), settings.shares(), scale=0.8, control=network_of(target, settings))
    center = torch.tensor([0.5, -0.5]).double()
    draws = center + 0.4 * torch.randn(4000, 2, generator=seeded_generator(2)).double()
    gradients = (center - draws) / 0.4**2
    bound = UpperBound(sampler)
    with torch.no_grad():
        whole = torch.stack([sampler.reverse(draws, generator=seeded_generator(i)).mean() for i in range(10)])
        single, unmixed = (
            torch.stack([made()(sampler.control, draws, gradients, seeded_generator(100 + i)) for i in range(60)])
            for made in (lambda: bound, lambda: UpperBound(sampler))
        )
    for found in (single, unmixed):
        error = (found.var() / 60 + whole.var() / 10).sqrt()
        assert float(error) < 0.08
        assert_z(float(found.mean()), float(whole.mean()), float(error))
    assert float(whole.mean()) > 3.2  # without its control the walk's bound is 3.05
    # For a Gaussian of standard deviation 0.4 the best share is a^2 0.4^2 / (a^2 0.4^2 + sigma^2), with no variance left.
    kept = (1 - sampler.shares).flip(0).cumprod(0).flip(0)
    best = kept * 0.4**2 / (kept * 0.4**2 + 0.8**2 * (1 - kept))
    # The variance of 4,000 draws has a relative error of sqrt(2 / 4,000) = 2.2 %. The product of noise and gradient at the
    # 20,000 states of a step adds sqrt(best / 20,000). Five of each are allowed.
    error = 0.022 * best + (best / 20_000).sqrt()
    assert bool(((bound.gradient_share() - best[:, None]).abs() < 5 * error[:, None]).all())


@pytest.mark.parametrize("whitening", ["diagonal", "full"])
def test_whitened_walks_of_a_gaussian_need_no_control(whitening):
    """In its own coordinates a Gaussian is the reference: weights of an untrained control have hardly any spread."""
    factor = torch.tensor([[0.2, 0.0], [0.0 if whitening == "diagonal" else 1.0, 3.0]]).double()
    normal = dist.MultivariateNormal(torch.tensor([5.0, -2.0]).double(), scale_tril=factor)
    settings = DiffusionSamplerSettings(
        num_steps=6, num_chain_updates=1, num_states=8, num_chains=64, whitening=whitening
    )
    sampler, _ = train_diffusion_sampler(
        lambda x: 2.0 + normal.log_prob(x), (2,), settings=settings, generator=seeded_generator(0)
    )
    ends, weights = sampler.walk(500, generator=seeded_generator(1))
    # 64 chains of 20 rounds: means and variances are known to a few percent.
    assert float(weights.std()) < 0.4
    assert_z((weights - 2.0).exp(), 1.0)
    assert_z((ends[:, 0] - 5.0) * (weights - 2.0).exp(), 0.0)
    inverse = (2.0 - sampler.reverse(normal.sample((500,)), generator=seeded_generator(2))).exp()
    assert_z(inverse, 1.0)


def test_whitening_needs_chains_that_span_the_space():
    with pytest.raises(ValueError, match="needs draws of chains"):
        DiffusionSamplerSettings(num_chain_updates=0, num_walk_updates=5, whitening="full")
    with pytest.raises(ValueError, match="singular in 3 dimensions"):
        Frame.whitening(torch.zeros(2, 3).double(), "full")


def test_walks_with_held_parameters_leave_no_spread_where_the_control_is_exact():
    """Sticking the landing: at the reference itself the gradient is zero for every walk, the plain one only on average."""
    settings = DiffusionSamplerSettings(num_steps=6, width=8)

    def reference(x):
        return -0.5 * x.square().sum(-1)

    network = ControlNetwork(reference, 2, settings, seeded_generator(0))
    sampler = DiffusionSampler(reference, (2,), settings.shares(), control=network)
    sizes = []
    for with_held in (network.with_held, None):
        _, weights = sampler.walk(50, generator=seeded_generator(1), with_held=with_held)
        gradients = torch.autograd.grad(weights.mean(), list(network.parameters()), allow_unused=True)
        sizes.append(max(float(g.abs().max()) for g in gradients if g is not None))
    assert sizes[0] < 1e-12
    assert sizes[1] > 1e-3


def test_held_parameters_keep_the_mean_of_the_gradient():
    settings = DiffusionSamplerSettings(num_steps=6, width=4)
    network = network_of(target, settings)
    sampler = DiffusionSampler(target, (2,), settings.shares(), control=network)
    bias = network.last.bias

    def gradients(with_held):
        return torch.stack(
            [
                torch.autograd.grad(
                    sampler.walk(250, generator=seeded_generator(i), with_held=with_held)[1].mean(), bias
                )[0]
                for i in range(60)
            ]
        )

    plain, held = gradients(None), gradients(network.with_held)
    assert float((plain - held).abs().max()) > 1e-3
    for column in range(6):
        # The same noise drives both, so that they are compared in pairs.
        assert_z(held[:, column] - plain[:, column], 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["walks", "chains"])
def test_a_trained_control_beats_none(way):
    updates = {"num_chain_updates": 0, "num_walk_updates": 30, "learning_rate": 1e-2}
    if way == "chains":
        updates = {"num_chain_updates": 60, "num_chains": 128}
    settings = DiffusionSamplerSettings(num_steps=24, batch_size=64, **updates)
    sampler, seen = train_diffusion_sampler(target, (2,), settings=settings, generator=seeded_generator(0))
    plain = DiffusionSampler(target, (2,), settings.shares())
    trained, untrained = (s.log_partition(num_samples=1000, generator=seeded_generator(0)) for s in (sampler, plain))
    # 4.9 nats are won, by walks and by chains.
    assert trained.mean_log_weight > untrained.mean_log_weight + 1.0
    assert abs(trained.log_z - 2.0) < 5 * trained.standard_error + 0.02
    if way == "walks":
        assert sum(seen.lower_bounds[-10:]) > sum(seen.lower_bounds[:10])
        assert seen.upper_bounds == []
        assert math.isnan(seen.acceptance_rate)
    else:
        assert 1.99 < sum(seen.upper_bounds[-20:]) / 20 < sum(seen.upper_bounds[:20]) / 20
        assert seen.lower_bounds == []
        assert 0.5 < seen.acceptance_rate < 1
        assert 0 <= seen.divergence_rate < 0.5


def test_restarts_give_modes_their_shares(monkeypatch):
    """Two wells between which no chain moves: a tenth of the mass is in the left one, and half of the starts."""
    wells = dist.MixtureSameFamily(
        dist.Categorical(torch.tensor([0.1, 0.9]).double()), dist.Normal(torch.tensor([-2.0, 2.0]).double(), 0.1)
    )

    def log_density(x):
        return wells.log_prob(x[:, 0])

    settings = dataclasses.replace(SMALL, scale=2.0, num_chains=512, num_chain_updates=8, num_restarts=2)
    sampler = DiffusionSampler(log_density, (1,), settings.shares(), scale=2.0)
    chains = _TargetChains(sampler, settings, seeded_generator(0))
    assert 0.4 < float((chains.state.position < 0).double().mean()) < 0.6
    chains.restart(sampler)
    draws, gradients = chains.draws(4000)
    torch.testing.assert_close(gradients, (2 * draws.sign() - draws) / 0.01)
    # Of 4,096 walks without a control some 300 have a fair weight.
    assert float((draws < 0).double().mean()) == pytest.approx(0.1, abs=5 * (0.09 / 300) ** 0.5)
    seen = []
    monkeypatch.setattr(_TargetChains, "restart", lambda self, _: seen.append(self._calls))
    train_diffusion_sampler(log_density, (1,), settings=settings, generator=seeded_generator(0))
    assert seen == [2, 4]


@pytest.mark.slow
def test_a_funnel_after_a_short_training():
    """Ten dimensions, 64 steps: log Z = 0, of which weights see all but the ends of the neck and the mouth."""

    def funnel(x):
        first, rest = x[..., 0], x[..., 1:]
        normal = -0.5 * (rest.square() * torch.exp(-first)[..., None]).sum(-1) - 4.5 * first
        return normal - first.square() / 18 - math.log(3) - 5 * math.log(2 * math.pi)

    settings = DiffusionSamplerSettings(scale=2.0, num_chain_updates=300, num_chains=128, num_states=256)
    sampler, seen = train_diffusion_sampler(funnel, (10,), settings=settings, generator=seeded_generator(0))
    estimate = sampler.log_partition(num_samples=1000, num_replicates=4, generator=seeded_generator(0))
    assert -0.4 < estimate.log_z < 0.05
    assert seen.divergence_rate > 0  # a tenth to twice the step: some transitions of the neck are refused


def _lost_at(updates):
    """The target, whose value at the ends of the walks of these updates is not a number."""
    calls = {"ends": 0}

    def log_density(x):
        is_end = x.grad_fn is not None  # the control asks at leaves, training at the end of a recorded walk
        calls["ends"] += is_end
        return target(x) * (torch.nan if is_end and calls["ends"] - 1 in updates else 1.0)

    return log_density


def test_training_goes_back_when_the_bound_is_lost():
    settings = DiffusionSamplerSettings(
        num_steps=4, num_chain_updates=0, num_walk_updates=120, batch_size=32, width=8, learning_rate=1e-2
    )
    bounds = train_diffusion_sampler(_lost_at({60, 61}), (2,), settings=settings, generator=seeded_generator(0))[
        1
    ].lower_bounds
    assert len(bounds) == 120
    assert all(math.isfinite(bound) for bound in bounds)
    assert sum(bounds[-20:]) > sum(bounds[:20])
    with pytest.raises(TrainingFailed, match="4 rollbacks"):
        train_diffusion_sampler(_lost_at(set(range(60, 500))), (2,), settings=settings, generator=seeded_generator(0))
    with pytest.raises(TrainingFailed, match="at step 0"):
        train_diffusion_sampler(_lost_at({0}), (2,), settings=settings, generator=seeded_generator(0))


def test_distributions_bring_their_shape():
    settings = DiffusionSamplerSettings(num_steps=4, width=8, num_chain_updates=3, num_chains=8, num_states=16)
    normal = dist.Normal(torch.zeros(2), 0.5).to_event(1)
    energy = EnergyDistribution.from_log_density(normal.log_prob, event_shape=(2,))
    point = train_diffusion_sampler(
        dist.Normal(torch.tensor(0.3), 0.5), settings=settings, generator=seeded_generator(0)
    )[0]
    assert point.sample(5).shape == (5,)
    one, other, third = (
        train_diffusion_sampler(given, shape, settings=settings, generator=seeded_generator(0))[0].sample(
            5, generator=seeded_generator(0)
        )
        for given, shape in ((normal, None), (energy, (2,)), (normal.log_prob, (2,)))
    )
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one, third)


@pytest.mark.parametrize(
    ("given", "shape", "message"),
    [
        (lambda x: -x.square().sum(-1), None, "expected event_shape"),
        (lambda x: -x.square().sum(-1), 2, "event_shape must be the shape of one point"),
        (lambda x: -x.square(), (2,), "expected one log density per row, .8,. for rows .8, 2., got .8, 2."),
        (dist.Normal(torch.zeros(2), 1.0), None, "without batch shape"),
        (dist.Normal(torch.zeros(2), 1.0).to_event(1), (3,), "has event shape .2,., got .3,."),
        (dist.Gamma(torch.ones(2), 1.0).to_event(1), None, "over all reals"),
    ],
)
def test_wrong_targets(given, shape, message):
    settings = DiffusionSamplerSettings(num_steps=4, num_chain_updates=3, num_chains=8)
    with pytest.raises(ValueError, match=message):
        train_diffusion_sampler(given, shape, settings=settings, generator=seeded_generator(0))


def test_the_weights_of_a_target_are_not_trained():
    class Target(torch.nn.Module):
        """A target with a weight of its own, as a network has."""

        def __init__(self):
            super().__init__()
            self.center = torch.nn.Parameter(torch.tensor([0.5, -0.5], dtype=torch.float64))

        def forward(self, x):
            return -0.5 * (x - self.center).square().sum(-1)

    module = Target()
    settings = DiffusionSamplerSettings(num_steps=4, width=8, num_chain_updates=0, num_walk_updates=3, batch_size=16)
    train_diffusion_sampler(module, (2,), settings=settings, generator=seeded_generator(0))
    assert module.center.tolist() == [0.5, -0.5]
    assert module.center.requires_grad


@pytest.mark.parametrize("whitening", ["none", "diagonal", "full"])
@pytest.mark.parametrize("event", [(), (1,), (2, 2)], ids=str)
def test_targets_of_any_event_shape(event, whitening):
    settings = dataclasses.replace(SMALL, whitening=whitening)
    law = dist.Normal(torch.full(event, 3.0), 0.5).to_event(len(event))
    sampler, _ = train_diffusion_sampler(law, settings=settings, generator=seeded_generator(0))
    draws, weights = sampler.walk(4, generator=seeded_generator(1))
    assert (draws.shape, weights.shape) == ((4, *event), (4,))
    assert sampler.reverse(draws.detach(), generator=seeded_generator(2)).shape == (4,)


def test_a_trained_sampler_works_in_inference_mode_and_in_float32():
    sampler, _ = train_diffusion_sampler(target, (2,), settings=SMALL, generator=seeded_generator(0))
    with torch.inference_mode():
        inside = sampler.sample(4, generator=seeded_generator(1)), sampler.log_partition(
            num_samples=8, generator=seeded_generator(2)
        )
    assert torch.equal(inside[0], sampler.sample(4, generator=seeded_generator(1)))
    assert inside[1].log_z == sampler.log_partition(num_samples=8, generator=seeded_generator(2)).log_z
    draws, weights = sampler.walk(4, generator=seeded_generator(1), dtype=torch.float32)
    assert (draws.dtype, weights.dtype) == (torch.float32, torch.float64)
    assert bool(sampler.reverse(draws.detach(), generator=seeded_generator(3)).isfinite().all())
