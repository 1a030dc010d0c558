"""Image networks: spectral norm and its freezing, growth, levels, calibration by step size, guidance, the U-Net."""

import math

import pytest
import torch
from torch import nn

from drl_density import NoiseSchedule
from drl_density.mcmc import HMC
from drl_density.networks import (
    MULTIPLIERS,
    ResidualEnergy,
    ResidualSettings,
    SpectralWeight,
    StepCalibrated,
    UNet,
    UNetEnergy,
    UNetEnergySettings,
    UNetSettings,
    combine_labels,
    frozen_power_iteration,
    guide_by_label,
    settle_power_iteration,
)
from drl_density.networks.images.attention import Attention
from drl_density.networks.images.unet_energy import BOUND
from drl_density.networks.level_embedding import LevelEmbedding
from drl_density.networks.spectral_norm import SpectralConv2d, SpectralLinear
from drl_density.testing import assert_z, seeded_generator

TINY = ResidualSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1)


def network(**changes):
    settings = ResidualSettings(**{**TINY.__dict__, **changes})
    return ResidualEnergy(settings, generator=seeded_generator()).double()


def images(count=4, generator=None):
    return torch.randn(count, 1, 8, 8, dtype=torch.float64, generator=generator or seeded_generator(1))


def wake(net):
    """Give the convolutions that start at zero something to do."""
    for module in net.modules():
        if isinstance(module, SpectralWeight) and module.is_zero:
            nn.init.normal_(module.weight, std=0.5, generator=seeded_generator(2))
    settle_power_iteration(net, num_iterations=100)
    return net


def test_settled_weights_have_unit_norm_and_small_ones_stay_small():
    """200 iterations leave an error of (second / first singular value)^400, far below 1e-6 for these matrices."""
    big = SpectralWeight((6, 4, 3, 3), generator=seeded_generator()).double()
    settle_power_iteration(big, num_iterations=200)
    assert abs(float(torch.linalg.matrix_norm(big().detach().flatten(1), 2)) - 1) < 1e-6
    bounded = SpectralWeight((6, 4, 3, 3), is_zero=True, generator=seeded_generator()).double()
    for norm, expected in ((0.3, 0.3), (7.0, 1.0)):
        with torch.no_grad():
            bounded.weight.copy_(norm * big())
        settle_power_iteration(bounded, num_iterations=200)
        assert abs(float(torch.linalg.matrix_norm(bounded().detach().flatten(1), 2)) - expected) < 1e-6


def test_gradient_goes_through_the_singular_value():
    """W / sigma does not change when W is scaled, so its gradient is orthogonal to W; the readout alone is not so."""
    weight = SpectralWeight((5, 3), generator=seeded_generator()).double()
    (weight() * torch.randn(5, 3, generator=seeded_generator(1), dtype=torch.float64)).sum().backward()
    assert abs(float((weight.weight.grad * weight.weight.detach()).sum())) < 1e-12


def test_every_layer_but_the_readout_is_normalised_and_second_convolutions_start_at_zero():
    net = network()
    plain = [name for name, part in net.named_modules() if isinstance(part, SpectralWeight) and not part.is_normalized]
    assert plain == ["readout.kernel"]
    zero = [name for name, part in net.named_modules() if isinstance(part, SpectralWeight) and part.is_zero]
    assert zero == [f"resolutions.{index}.0.second.kernel" for index in (0, 1)]
    assert all(float(net.get_submodule(name).weight.detach().abs().max()) < 1e-4 for name in zero)
    assert net.resolutions[0][0].second.gain.requires_grad
    layers = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
    assert not any(isinstance(part, layers) for part in net.modules())
    assert sum(isinstance(part, SpectralConv2d | SpectralLinear) for part in net.modules()) == 11


def test_weights_start_uniform_with_the_variance_of_the_mean_fan():
    """Variance v / fan, the fan (inputs + outputs) / 2 times the kernel's places; v is 1, and 1e-10 where zero is meant."""
    net = network(num_channels=16)
    block = net.resolutions[1][0]
    for part, fan, variance in ((net.level_in, 40, 1), (block.first, 24 * 9, 1), (block.second, 32 * 9, 1e-10)):
        weight = part.kernel.weight.detach().flatten()
        assert_z(weight.square(), variance / fan)
        assert 0.99 < float(weight.abs().max()) / math.sqrt(3 * variance / fan) <= 1 + 1e-6


def test_the_readout_meets_what_is_positive_and_adds_nothing():
    """<v, sum of relu(h)> under leaky ReLUs too, whatever the biases; exactly zero where no feature is positive."""
    net = wake(network())
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5, generator=seeded_generator(3))
    seen, last, log_snr = {}, net.resolutions[-1][-1], torch.zeros(4, dtype=torch.float64)
    last.register_forward_hook(lambda part, inputs, out: seen.update(state=out))
    net.readout.register_forward_hook(lambda part, inputs, out: seen.update(answer=out))
    with torch.no_grad():
        values = net(images(), log_snr)
        assert 0.1 < float((seen["state"] < 0).double().mean()) < 0.9
        expected = (seen["state"].clamp(min=0).sum((2, 3)) * seen["answer"]).sum(1)
        torch.testing.assert_close(values, expected, rtol=1e-10, atol=0)
        last.register_forward_hook(lambda part, inputs, out: -out.abs())
        assert torch.equal(net(images(), log_snr), torch.zeros_like(values))


def test_every_block_hears_the_level():
    net = wake(network(num_blocks=2)).eval()
    log_snr = torch.zeros(4, dtype=torch.float64)
    blocks = [block for blocks in net.resolutions for block in blocks]
    assert len(blocks) == 4
    with torch.no_grad():
        before = net(images(), log_snr)
        for block in blocks:
            kept = block.level.kernel.weight.clone()
            nn.init.normal_(block.level.kernel.weight, generator=seeded_generator(3))
            assert float((net(images(), log_snr) / before - 1).abs().max()) > 1e-3
            block.level.kernel.weight.copy_(kept)
            assert torch.equal(net(images(), log_snr), before)


@pytest.mark.parametrize("starts_at_zero", [True, False])
def test_readout_and_blocks_do_not_both_start_at_zero(starts_at_zero):
    """Where both are near zero, neither has a gradient to leave by."""
    settings = ResidualSettings(
        (1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1, is_normalized=False, starts_at_zero=starts_at_zero
    )
    net = ResidualEnergy(settings, generator=seeded_generator())
    seconds = [net.resolutions[index][0].second.kernel.weight.detach() for index in (0, 1)]
    assert bool(net.readout.kernel.weight.detach().any()) != starts_at_zero
    assert all((float(weight.std()) > 0.05) == starts_at_zero for weight in seconds)


def test_one_power_iteration_per_training_pass_and_none_when_frozen():
    net = network().train()
    first = net.enter.kernel
    start = first.u.clone()
    expected = first.iterate()[0]
    net(images(), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(first.u, expected)
    assert not torch.equal(first.u, start)
    with frozen_power_iteration(net):
        before = first.u.clone()
        inside = net(images(), torch.zeros(4, dtype=torch.float64))
        assert torch.equal(first.u, before)
    assert torch.equal(net(images(), torch.zeros(4, dtype=torch.float64)), inside)
    assert not torch.equal(first.u, before)
    before = first.u.clone()
    net.eval()(images(), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(first.u, before)


def test_an_adjusted_chain_sees_one_density():
    """The energy of the accepted state, evaluated afresh, is the energy the kernel kept: exactly, in training mode."""
    net = wake(network()).train()
    for module in net.modules():
        if isinstance(module, SpectralWeight) and module.is_normalized:
            module.u.copy_(torch.nn.functional.normalize(torch.ones_like(module.u), dim=0))
    log_snr = torch.zeros(4, dtype=torch.float64)

    def log_density(x):
        return net(x, log_snr) - 0.5 * x.square().flatten(1).sum(1)

    kernel = HMC(num_leapfrog=2)
    with frozen_power_iteration(net), torch.no_grad():
        state = kernel.init(images(), log_density)
        for _ in range(3):
            state, _ = kernel.step(state, log_density, 0.1, seeded_generator(3))
        assert torch.equal(state.log_density, log_density(state.position))
    moving = kernel.init(images(), log_density)
    assert not torch.equal(moving.log_density, log_density(moving.position))


@pytest.mark.parametrize("activation", ["leaky_relu", "silu"])
def test_growth_is_at_most_linear(activation):
    """On a ray far out every layer is linear up to bounded terms: doubling x at 1e6 doubles g to 1e-3."""
    net = wake(network(activation=activation, attention_sizes=(4,)))
    nn.init.normal_(net.resolutions[1][1].out.weight, generator=seeded_generator(4))
    x, log_snr = 1e6 * images(), torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        ratio = net(2 * x, log_snr) / net(x, log_snr)
    assert net.has_bounded_growth
    assert bool((ratio.abs() < 2.05).all())


def test_levels_are_met_exactly_and_continuous_between():
    schedule = NoiseSchedule.linear_beta()
    embedding = LevelEmbedding(8, schedule.log_snr[:-1].tolist())
    levels = torch.arange(6, dtype=torch.float64)
    assert torch.allclose(embedding.time(schedule.log_snr_at(levels)).double(), levels, atol=1e-5)
    assert float(embedding.time(schedule.log_snr_at(2.5))) == pytest.approx(2.5, abs=1e-5)
    free = LevelEmbedding(8)
    times = free.time(NoiseSchedule.cosine(6).log_snr)
    # arctan(exp(-lambda/2)) is what the cosine schedule spaces evenly
    assert torch.allclose(times.diff(), times.diff().mean().expand(6), rtol=1e-6)
    assert 0 < float(times[0]) < float(times[-1]) < 1000


def test_rows_may_be_flat_and_levels_shared():
    net = wake(network()).eval()
    x, log_snr = images(), torch.full((4,), 0.7, dtype=torch.float64)
    values = net(x, log_snr)
    assert torch.allclose(net(x.flatten(1), log_snr[0]), values, atol=1e-12)
    with pytest.raises(ValueError, match="expected images of shape"):
        net(x[..., :7], log_snr)


def test_papers_sizes():
    """34.8 million parameters at 32 pixels with 8 blocks; every listed resolution ends at 4 pixels or more."""
    net = ResidualEnergy(ResidualSettings((3, 32, 32), num_blocks=8, multipliers=MULTIPLIERS[32]))
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == 34.8
    for size, multipliers in MULTIPLIERS.items():
        assert size // 2 ** (len(multipliers) - 1) >= 4
    with pytest.raises(ValueError, match="fewer multipliers"):
        ResidualSettings((1, 4, 4), multipliers=(1, 2, 2, 2))


class Quadratic(nn.Module):
    has_bounded_growth = True

    def forward(self, y, log_snr):
        return -0.5 * y.square().flatten(1).sum(1)


def calibrated(raw, *, factor=2e-4):
    schedule = NoiseSchedule.linear_beta()
    return schedule, StepCalibrated(raw, schedule.log_snr[:-1], *schedule.langevin_steps(factor))


def test_calibration_divides_once_and_scales_the_input():
    schedule, wrapped = calibrated(Quadratic())
    step_alpha, step_size = schedule.langevin_steps()
    x = torch.randn(3, 5, dtype=torch.float64)
    for level in range(6):
        log_snr = schedule.log_snr_at(level)
        y = step_alpha[level] * x
        expected = -0.5 * y.square().sum(1) / step_size[level] ** 2
        assert torch.allclose(wrapped(x, log_snr), expected, rtol=1e-12)
        assert torch.allclose(wrapped(x, log_snr.expand(3)), expected, rtol=1e-12)
    half = wrapped.step_size_at(schedule.log_snr_at(0.5))
    assert float(half) == pytest.approx(float((step_size[0] * step_size[1]).sqrt()), rel=1e-12)


def test_log_z_over_x_differs_from_log_z_over_y_by_the_jacobian():
    """Both are Gaussian integrals: precision a^2 / s^2 over x, 1 / s^2 over y; at level 4 and d = 3072 it is 1400 nats."""
    schedule, wrapped = calibrated(Quadratic())
    step_alpha, step_size = schedule.langevin_steps()
    num_features = 3072
    for level in range(6):
        log_z_y = 0.5 * num_features * math.log(2 * math.pi * float(step_size[level]) ** 2)
        log_z_x = 0.5 * num_features * math.log(2 * math.pi * float(step_size[level] / step_alpha[level]) ** 2)
        offset = float(wrapped.log_z_offset(schedule.log_snr_at(level), num_features))
        assert offset == pytest.approx(log_z_x - log_z_y, abs=1e-8)
    assert float(wrapped.log_z_offset(schedule.log_snr_at(4), num_features)) == pytest.approx(1400, abs=1)
    assert float(wrapped.log_z_offset(schedule.log_snr_at(5), num_features)) == 0


def test_calibration_refuses_nonsense():
    with pytest.raises(ValueError, match="one log-SNR, a and s per level"):
        StepCalibrated(Quadratic(), torch.zeros(3), torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="positive"):
        StepCalibrated(Quadratic(), torch.zeros(1), torch.ones(1), torch.zeros(1))
    with pytest.raises(ValueError, match="b\\^2"):
        NoiseSchedule.linear_beta().langevin_steps(0.0)


class ClassDensities(nn.Module):
    """Exact log densities of two classes and of their mixture (label 0), one dimension, any level ignored."""

    has_bounded_growth = True

    def forward(self, x, log_snr, label):
        parts = torch.stack([torch.distributions.Normal(m, s).log_prob(x[:, 0]) for m, s in ((-1.0, 0.6), (1.2, 0.9))])
        prior = torch.tensor([0.3, 0.7], dtype=torch.float64).log()[:, None]
        mixed = (parts + prior).logsumexp(0)
        return torch.where(label == 0, mixed, torch.where(label == 1, parts[0], parts[1]))


def test_guidance_is_the_density_it_claims():
    """exp of (1 + w) f(c) - w f(not told), normalised on a grid, is p(c|x)^w p(x|c), normalised on the same grid."""
    grid = torch.linspace(-6, 6, 801, dtype=torch.float64)[:, None]
    exact, log_snr = ClassDensities(), torch.zeros((), dtype=torch.float64)
    own, mixed = (exact(grid, log_snr, torch.tensor(label)) for label in (2, 0))
    posterior = own + math.log(0.7) - mixed
    for weight in (0.0, 0.5, 2.0):
        found = guide_by_label(exact, 2, weight)(grid, log_snr).log_softmax(0)
        assert torch.allclose(found, (weight * posterior + own).log_softmax(0), atol=1e-10)
    both = combine_labels(exact, [1, 2])(grid, log_snr)
    assert torch.allclose(both, exact(grid, log_snr, torch.tensor(1)) + own - mixed, atol=1e-10)
    with pytest.raises(ValueError, match="summing to 1"):
        type(both_net := combine_labels(exact, [1]))(exact, (1, 0), (1.0, both_net.weights[0]))


@pytest.mark.parametrize(
    ("network", "sizes"),
    [
        (ResidualEnergy, ResidualSettings((1, 8, 8), num_channels=8, attention_sizes=(8, 4), num_classes=3)),
        (ResidualEnergy, ResidualSettings((1, 8, 8), num_channels=8, is_normalized=False, starts_at_zero=True)),
        (UNetEnergy, UNetEnergySettings((1, 8, 8), num_channels=8, num_classes=3)),
        (UNet, UNetSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), attention_sizes=(4,), num_classes=3)),
    ],
)
def test_the_generator_alone_decides_every_weight(network, sizes):
    """Whatever the global generator stands at."""
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(network(sizes, generator=seeded_generator()).state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_labels_reach_energy_and_initialiser():
    net = wake(network(num_classes=3)).eval()
    x, log_snr = images(), torch.zeros(4, dtype=torch.float64)
    label = torch.tensor([1, 2, 3, 0])
    values = net(x, log_snr, label)
    assert torch.equal(net(x, log_snr), net(x, log_snr, torch.zeros_like(label)))
    assert torch.allclose(guide_by_label(net, 2, 0.0)(x, log_snr)[1], values[1])
    with pytest.raises(ValueError, match="no labels"):
        network()(x, log_snr, label)
    start = UNet(UNetSettings((1, 8, 8), num_channels=8, multipliers=(1, 1), num_blocks=1, num_classes=3)).double()
    for parameter in start.parameters():
        nn.init.normal_(parameter, std=0.1, generator=seeded_generator(5))
    start.eval()
    assert not torch.equal(start(x, log_snr, label)[0], start(x, log_snr)[0])
    assert torch.equal(start(x, log_snr, label)[3], start(x, log_snr)[3])


def test_new_initialiser_is_the_identity_and_learns():
    start = UNet(UNetSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), attention_sizes=(4,)), generator=None)
    x = images().float()
    assert torch.equal(start.eval()(x, torch.zeros(())), x)
    (start.train()(x, torch.zeros(4)) ** 2).sum().backward()
    assert float(start.leave.weight.grad.abs().sum()) > 0
    assert start(x.flatten(1), torch.zeros(())).shape == (4, 64)
    with pytest.raises(ValueError, match="divisible by 4"):
        UNetSettings((1, 6, 6))


def unet_energy(**changes):
    sizes = UNetEnergySettings((1, 8, 8), **{"num_channels": 4, "num_middle_blocks": 1, **changes})
    net = UNetEnergy(sizes, generator=seeded_generator()).double()
    assert float(net(images(), torch.zeros(4, dtype=torch.float64)).detach().abs().max()) == 0.0
    nn.init.normal_(net.leave.weight, generator=seeded_generator(3))
    return net


@pytest.mark.parametrize("changes", [{}, {"patch_size": 2}, {"multipliers": (1, 2, 2), "num_blocks": 2}])
def test_the_inner_product_is_bounded_by_the_sum_of_pixels(changes):
    """|g| <= b |x|_1 / sigma, also far out, where every answer is at its bound."""
    net = unet_energy(**changes)
    x = images(64)
    log_snr = torch.linspace(-4, 4, 64, dtype=torch.float64)
    limit = BOUND * x.abs().flatten(1).sum(1) * torch.sigmoid(-log_snr).rsqrt()
    with torch.no_grad():
        far = net(1e9 * x, log_snr).abs() / (1e9 * limit)
    assert net.has_bounded_growth
    assert bool((far <= 1).all())
    assert float(far.max()) > 0.2


def test_the_inner_product_pairs_each_pixel_with_its_own_answer():
    """With answers held constant the gradient is the answer over sigma, pixel by pixel, in patches as without."""
    log_snr = torch.tensor(0.7, dtype=torch.float64)
    for patch in (1, 2):
        net = unet_energy(patch_size=patch)
        nn.init.zeros_(net.leave.weight)
        nn.init.normal_(net.leave.bias, generator=seeded_generator(4))
        x = images().requires_grad_(True)
        (gradient,) = torch.autograd.grad(net(x, log_snr).sum(), x)
        answer = net.leave.bias.detach()
        answer = answer / (1 + (answer / BOUND).square()).sqrt() / torch.sigmoid(-log_snr).sqrt()
        expected = answer.reshape(patch, patch).repeat(8 // patch, 8 // patch).expand(4, 1, 8, 8)
        assert torch.allclose(gradient, expected, atol=1e-12)


def test_the_unet_energy_drops_features_in_training_mode_alone():
    sizes = UNetEnergySettings((1, 8, 8), num_channels=8, dropout=0.5)
    net = UNetEnergy(sizes, generator=seeded_generator()).double()
    nn.init.normal_(net.leave.weight, generator=seeded_generator(3))
    x, log_snr = images(), torch.tensor(0.0, dtype=torch.float64)
    plain = UNetEnergy(UNetEnergySettings((1, 8, 8), num_channels=8)).double()
    plain.load_state_dict(net.state_dict())
    assert torch.equal(net.eval()(x, log_snr), plain.train()(x, log_snr))
    torch.manual_seed(0)
    once, again = net.train()(x, log_snr), net(x, log_snr)
    assert not torch.equal(once, again)
    blocks = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    assert len(blocks) == 5
    assert {block.p for block in blocks} == {0.5}


def test_the_unet_energy_takes_flat_rows_shared_levels_and_labels():
    net = unet_energy(num_classes=2, patch_size=2)
    nn.init.normal_(net.embed_label.weight, generator=seeded_generator(5))
    x, log_snr = images(), torch.full((4,), 0.3, dtype=torch.float64)
    plain = net(x, log_snr)
    assert torch.equal(net(x.flatten(1), log_snr), plain)
    assert torch.allclose(net(x, log_snr[0]), plain, atol=1e-12)
    assert torch.allclose(net(x, log_snr, torch.zeros(4, dtype=torch.long)), plain, atol=1e-12)
    assert not torch.allclose(net(x, log_snr, torch.ones(4, dtype=torch.long)), plain)
    assert not torch.allclose(net(x, log_snr + 1), plain)


class _Layout(nn.Module):
    def __init__(self, layout):
        super().__init__()
        self.layout = layout

    def forward(self, x):
        return x.contiguous(memory_format=self.layout)


def test_second_derivatives_are_right():
    """Score matching differentiates twice: the U-Net energy and attention against finite differences.

    With channels innermost torch would choose an attention kernel that has no second derivative.
    """
    net, attention = unet_energy(multipliers=(1, 1)), Attention(4).double()
    nn.init.normal_(attention.out.weight, generator=seeded_generator(6))
    x = images(2).requires_grad_(True)
    log_snr = torch.zeros(2, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda x: net(x, log_snr), (x,), atol=1e-4)
    state = torch.randn(2, 4, 2, 2, generator=seeded_generator(7), dtype=torch.float64).requires_grad_(True)
    for layout in (torch.contiguous_format, torch.channels_last):
        inner = nn.Sequential(_Layout(layout), attention.to(memory_format=layout))
        assert torch.autograd.gradgradcheck(inner, (state,), atol=1e-4)


UNET_BAD = [
    (lambda: UNetEnergySettings((1, 9, 8)), "sides divisible by 2"),
    (lambda: UNetEnergySettings((1, 8, 8), patch_size=4, multipliers=(1, 1, 1)), "sides divisible by 16"),
    (lambda: UNetEnergySettings((1, 8, 8), num_middle_blocks=0), "num_middle_blocks must be at least 1"),
    (lambda: UNetEnergySettings((1, 8, 8), dropout=1.0), "dropout must lie in"),
    (lambda: unet_energy()(torch.zeros(2, 3), torch.zeros(())), "expected images of shape"),
    (lambda: unet_energy()(images(), torch.zeros(()).double(), torch.ones(4).long()), "has no labels"),
]


@pytest.mark.parametrize(("call", "message"), UNET_BAD, ids=[row[1] for row in UNET_BAD])
def test_bad_input_to_the_unet_energy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
