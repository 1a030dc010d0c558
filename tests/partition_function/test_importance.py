"""Importance sampling from the base: closed forms, errors, and bases that miss mass."""

import math

import pytest
import torch
from torch import nn

from drl_density import EnergySequence, NoiseSchedule
from drl_density.bases import NoisedGaussianMixture
from drl_density.errors import NumericalError, Verdict
from drl_density.networks import MLP, ColumnTilt, ColumnTiltSettings, MLPSettings
from drl_density.partition_function import AISSettings, importance
from drl_density.partition_function.importance import (
    acceptance_of_weights,
    checked_importance_sampling,
    importance_efficiency,
    importance_sampling,
    resampled_draws,
    tilts,
    tilts_with_columns,
)
from drl_density.testing import assert_z, seeded_generator

SCHEDULE = NoiseSchedule.log_spaced(3)


class Linear(nn.Module):
    """g = k x_0 + 1, so that log Z over N(0, 1) is k^2 / 2 + 1."""

    has_bounded_growth = True

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x, log_snr):
        return self.slope * x[:, 0] + 1.0


def model(slope, base=None):
    return EnergySequence(SCHEDULE, Linear(slope), (2,), base=base or NoisedGaussianMixture.standard(2))


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("level", [0.0, 1.5])
def test_log_z_of_a_linear_tilt(slope, level):
    estimate = importance_sampling(model(slope), level=level, num_samples=20_000, generator=seeded_generator(0))
    error = max(estimate.standard_error, 1e-6)
    assert_z(torch.tensor(estimate.log_z), slope**2 / 2 + 1.0, error)
    assert estimate.is_one_sided


def test_the_base_is_drawn_under_the_noise_of_the_level():
    """Over N(2, 4) the noised base is N(2 a, 4 a^2 + s^2): log Z = 2 a k + k^2 (4 a^2 + s^2) / 2 + 1."""
    base = NoisedGaussianMixture(torch.ones(1), torch.full((1, 2), 2.0), torch.full((1, 2), 4.0))
    alpha, sigma = float(SCHEDULE.alpha_at(2)), float(SCHEDULE.sigma_at(2))
    estimate = importance_sampling(model(0.4, base), level=2, generator=seeded_generator(1))
    truth = 0.8 * alpha + 0.08 * (4 * alpha**2 + sigma**2) + 1.0
    assert_z(torch.tensor(estimate.log_z), truth, estimate.standard_error)


def mixtures(dim):
    """A wide base of two Gaussians, and data of three narrow ones, in ``dim`` dimensions."""
    centres = torch.tensor([[-1.0] * dim, [0.8] * dim])
    base = NoisedGaussianMixture(torch.tensor([0.4, 0.6]), centres, torch.full((2, dim), 2.0))
    means = torch.tensor([[-1.5, 1.0], [0.2, -0.6], [1.8, 0.7]])[:, :dim]
    return base, NoisedGaussianMixture(torch.tensor([0.2, 0.5, 0.3]), means, torch.full((3, dim), 0.3))


class Optimum(nn.Module):
    """The optimal tilt log q - log b of data q over the base b at every level, and a constant, which is its log Z."""

    has_bounded_growth = True

    def __init__(self, data, base, constant):
        super().__init__()
        self.data, self.base, self.constant = data, base, constant

    def forward(self, x, log_snr):
        return self.data(x, log_snr) - self.base(x, log_snr) + self.constant


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("level", [0.0, 1.5])
def test_log_z_of_the_optimal_tilt_between_mixtures_is_its_constant(dim, level):
    base, data = mixtures(dim)
    sequence = EnergySequence(SCHEDULE, Optimum(data, base, 0.7), (dim,), base=base)
    estimate = importance_sampling(sequence, level=level, num_samples=20_000, generator=seeded_generator(7))
    assert_z(torch.tensor(estimate.log_z), 0.7, estimate.standard_error)
    assert estimate.standard_error < 0.02


@pytest.mark.parametrize("dim", [1, 2])
def test_log_z_of_a_column_network_is_that_of_quadrature(dim):
    """A network with random weights of a readout over a mixture, by the rule of rectangles on a fine grid."""
    base, _ = mixtures(dim)
    network = ColumnTilt(ColumnTiltSettings(dim, width=16, num_sigmoids=8), generator=seeded_generator(8)).eval()
    with torch.no_grad():
        network.readout.bias.copy_(3 * torch.randn(17, generator=seeded_generator(9)))
    sequence = EnergySequence(SCHEDULE, network, (dim,), base=base).eval()
    points = torch.linspace(-9, 9, 2001 if dim == 1 else 161)
    grid = torch.cartesian_prod(*[points] * dim).reshape(-1, dim)
    with torch.no_grad():
        values = sequence.log_density(grid, 0).double()
    truth = float(values.logsumexp(0)) + dim * math.log(float(points[1] - points[0]))
    estimate = importance_sampling(sequence, num_samples=20_000, generator=seeded_generator(10))
    assert abs(truth) > 0.2  # an estimate of 0 would be wrong
    assert_z(torch.tensor(estimate.log_z), truth, estimate.standard_error)


def test_a_tilt_that_the_base_cannot_follow_is_not_reliable():
    estimate = importance_sampling(model(5.0), num_samples=2000, generator=seeded_generator(2))
    assert estimate.verdict is Verdict.UNRELIABLE
    assert estimate.log_z < 12.5 + 1.0


def test_equal_seeds_give_equal_estimates():
    one, two = (importance_sampling(model(0.5), num_samples=1000, generator=seeded_generator(3)) for _ in range(2))
    assert one.log_z == two.log_z
    assert one.log_weights.shape == (10, 100)
    assert math.isfinite(one.standard_error)


def test_a_sequence_without_a_base_is_refused():
    with pytest.raises(NumericalError, match="draws from the base"):
        importance_sampling(EnergySequence(SCHEDULE, Linear(1.0), (2,), has_base=False))


def test_acceptance_of_weights_counts_every_ordered_pair():
    weights = torch.rand(3, 40, generator=seeded_generator(5), dtype=torch.float64)
    pairs = weights[:, :, None].minimum(weights[:, None]).sum((1, 2)) / weights.sum(1) / 40
    torch.testing.assert_close(acceptance_of_weights(weights.log()), pairs)


def test_resampled_draws_follow_the_tilted_density_in_an_order_of_chance():
    """A linear tilt of N(0, 1) by k is N(k, 1), and its importance efficiency exp(-k^2)."""
    draws, weights = resampled_draws(model(0.7), 2000, num_proposals=40_000, generator=seeded_generator(6))
    # Four times as many effective proposals as draws: a fifth more variance covers choices that repeat.
    assert_z(draws[:, 0].mean(), 0.7, (1.2 / 2000) ** 0.5)
    assert_z(draws[:, 1].mean(), 0.0, (1.2 / 2000) ** 0.5)
    assert importance_efficiency(weights) == pytest.approx(math.exp(-0.49), abs=0.02)
    _, repeats = draws.unique(dim=0, return_counts=True)
    assert int(repeats.sum()) == 2000
    equal_neighbours = (draws[1:] == draws[:-1]).all(1).sum()
    assert int(equal_neighbours) < 5  # sorted choices would put every repeated draw next to its copy


class Slope(nn.Module):
    """A bounded tilt that leads away from the base: 30 nats more from about 3.5 on, where few of its draws lie."""

    has_bounded_growth = is_bounded = True

    def __init__(self, height):
        super().__init__()
        self.height = nn.Parameter(torch.tensor(height))

    def forward(self, x, log_snr):
        return self.height * torch.sigmoid(3 * (x[:, 0] - 3.5))


@pytest.mark.parametrize("height", [30.0, 0.5])
def test_annealing_finds_mass_that_draws_of_the_base_miss(height):
    """P(x > 3.5) is 2e-4, so 500 draws hardly see the plateau, and walks climb it; a low one holds no mass to speak of."""
    sequence = EnergySequence(SCHEDULE, Slope(height), (2,), base=NoisedGaussianMixture.standard(2))
    settings = AISSettings(num_particles=128, num_replicates=4)
    found = checked_importance_sampling(sequence, num_samples=500, settings=settings, generator=seeded_generator(4))
    assert (found.excess > 1) == (height > 1)
    assert (found.excess == 0) == (height < 1)
    assert (found.estimate.verdict is Verdict.UNRELIABLE) == (height > 1)


def test_an_untrained_network_is_not_annealed(monkeypatch):
    """Its density is the base, with log Z = 0 exactly, so there is no mass to be found."""
    monkeypatch.setattr(importance, "anneal", lambda *_, **__: pytest.fail("annealed"))
    model = EnergySequence(SCHEDULE, ColumnTilt(ColumnTiltSettings(2, width=8)), (2,))
    found = checked_importance_sampling(model, num_samples=100, generator=seeded_generator(6))
    assert (float(found.estimate.log_z), found.excess) == (0.0, 0.0)


@pytest.mark.parametrize("network", [ColumnTilt(ColumnTiltSettings(3, width=8)), MLP(MLPSettings(3, width=8))])
def test_tilts_of_completions_are_those_of_whole_rows(network):
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5, generator=seeded_generator(0))
    model = EnergySequence(NoiseSchedule.log_spaced(4), network, (3,))
    rows, values = (
        torch.randn(4, 2, *size, 3, dtype=torch.float64, generator=seeded_generator(1)) for size in ((), (5,))
    )
    is_missing = torch.tensor([[True, False, False], [False, True, True], [True, False, False], [True, True, False]])
    draws = torch.where(is_missing[:, None, None], values, rows[:, :, None])
    found = tilts_with_columns(model, rows, draws, is_missing, 1.0)
    torch.testing.assert_close(found, tilts(model, draws.reshape(-1, 3), 1.0).reshape(4, 2, 5), rtol=1e-5, atol=1e-5)
