"""What the papers derive, checked on closed forms."""

import math

import pytest
import torch

from drl_density import NoiseSchedule, RecoveryLikelihood
from drl_density.mcmc import MALA, run_chain
from drl_density.testing import GaussianMixtureSequence, assert_z, gaussian_sequence, seeded_generator
from drl_density.training import classification_loss, validation_loss
from drl_density.training.objectives.classification import level_logits
from drl_density.weights import log_mean_exp, standard_error_of_log_mean


def one_dimensional(variance, schedule):
    return gaussian_sequence(torch.zeros(1), torch.full((1, 1), variance), schedule)


def test_recovery_conditional_of_gaussian_data():
    """Precision 1 / v + a^2 / s^2 for x of variance v, mean a x' / (s^2 precision)."""
    schedule = NoiseSchedule.log_spaced(4)
    system = one_dimensional(0.5, schedule)
    x_noisier = torch.tensor([[0.7]], dtype=torch.float64)
    alpha, sigma = schedule.alpha[1], schedule.sigma[1]
    variance = 0.5 * alpha**2 + sigma**2
    a, s = schedule.step_alpha[1], schedule.step_sigma[1]
    precision = 1 / variance + a**2 / s**2
    grid = torch.linspace(-2, 2, 21, dtype=torch.float64)[:, None, None]
    expected = -0.5 * precision * (grid[..., 0] - a * x_noisier[0, 0] / (s**2 * precision)) ** 2
    values = system.model.recovery(1).condition(x_noisier).log_prob(grid)
    gap = values - expected
    torch.testing.assert_close(gap, gap[:1].expand_as(gap), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("factor", "sign"), [(1.0, 0), (1.5, 1), (0.7, -1)])
def test_gradient_is_zero_at_the_truth_and_points_to_it(factor, sign):
    """For F = -precision x^2 / 2 the gradient in precision is (E x_chain^2 - E x_data^2) / 2; too stiff pushes down."""
    schedule = NoiseSchedule.log_spaced(4)
    generator = seeded_generator(1)
    level, num_rows = 1, 20_000
    variance = float(0.5 * schedule.alpha[level] ** 2 + schedule.sigma[level] ** 2)
    x = 0.5**0.5 * torch.randn(num_rows, 1, generator=generator, dtype=torch.float64)
    x_clean, x_noisier = schedule.diffuse_pair(x, level, generator=generator)
    a, s = schedule.step_alpha[level], schedule.step_sigma[level]
    precision = factor / variance
    total = precision + a**2 / s**2
    mean = a * x_noisier / (s**2 * total)
    negative = mean + total**-0.5 * torch.randn(num_rows, 1, generator=generator, dtype=torch.float64)
    difference = x_clean.square() - negative.square()
    if sign == 0:
        assert_z(difference, 0.0)
    else:
        z = float(difference.mean() / (difference.std() / num_rows**0.5))
        assert sign * z > 4.5


def test_data_started_chains_do_not_move_the_truth():
    """With the exact model the recovery contrast has mean zero for any number of adjusted steps."""
    system = GaussianMixtureSequence.example(dim=2, schedule=NoiseSchedule.log_spaced(6))
    generator = seeded_generator(2)
    objective = RecoveryLikelihood(num_steps=3)
    steps = torch.full((6,), 0.8, dtype=torch.float64)
    levels = torch.arange(12_000) % 6
    x = system.sample(12_000, None, generator=generator)
    with torch.no_grad():
        statistics = objective.contrast(system.model, x, levels, steps, generator=generator).statistics
    # 2,000 rows per level; log densities here have standard deviation near 1, differences of dependent ends at most 1.5.
    assert_z(statistics.energy_gap, 0.0, 1.5 / math.sqrt(2000))
    assert bool((statistics.acceptance_rate > 0.3).all())


def test_normal_approximation_has_order_four():
    """The error of its mean falls as s^4, slope 2 in s^2, and its variance is (s / a)^2."""
    variance, state = 0.5, torch.full((1, 1), 0.8, dtype=torch.float64)
    errors, squares = [], []
    for gap in (1e-2, 1e-3):
        system = one_dimensional(variance, NoiseSchedule([2.0, 2.0 - gap]))
        recovery = system.model.recovery(0)
        found, exact = recovery.normal_approximation(state), system.recovery(state, 0)
        errors.append(float((found.mean - exact.mean).abs()))
        squares.append(recovery.step_sigma**2)
        assert float(found.variance) == pytest.approx((recovery.step_sigma / recovery.step_alpha) ** 2)
    slope = math.log(errors[0] / errors[1]) / math.log(squares[0] / squares[1])
    # The next order adds precision times s^2, 1 to 2 % at the larger gap.
    assert abs(slope - 2) < 0.02


def test_change_of_variables_to_the_papers_coordinate():
    """G(y) = F(y / a) integrates to Z a^d: the -d log a term, which MALA in either coordinate must not feel."""
    system = one_dimensional(0.5, NoiseSchedule.log_spaced(3))
    a = float(system.schedule.step_alpha[1])
    grid = torch.linspace(-8, 8, 20_001, dtype=torch.float64)[:, None]
    values = system.model.log_density(grid / a, 1)
    log_z_y = torch.logsumexp(values, 0) + math.log(16 / 20_000)
    # Trapezoid rule on an analytic density that vanishes at the ends: exact to rounding.
    torch.testing.assert_close(log_z_y - math.log(a), system.log_z(1), rtol=1e-9, atol=1e-9)


def test_mala_keeps_its_target_when_the_step_doubles():
    system = one_dimensional(0.5, NoiseSchedule.log_spaced(3))
    variance = float(0.5 * system.schedule.alpha[1] ** 2 + system.schedule.sigma[1] ** 2)
    for step_size in (0.4, 0.8):
        generator = seeded_generator(3)
        x = system.sample(20_000, 1, generator=generator)
        draws = run_chain(
            MALA(), lambda z: system.model.log_density(z, 1), x, num_steps=8, step_size=step_size, generator=generator
        ).draws[-1]
        assert_z(draws.square(), variance)


@pytest.mark.parametrize("dim", [2, 8])
def test_level_by_level_importance_recursion(dim):
    """The papers' recursion log Z_t = log Z_{t+1} + log mean exp(F_t - F_{t+1}) with exact draws ends at the offset."""
    system = GaussianMixtureSequence.example(dim=dim, num_components=5, schedule=NoiseSchedule.log_spaced(50))
    generator = seeded_generator(4)
    total, variance = system.log_z(50), 0.0
    for level in reversed(range(50)):
        x = system.sample(2000, level + 1, generator=generator)
        log_weights = system.model.log_density(x, level) - system.model.log_density(x, level + 1)
        total = total + log_mean_exp(log_weights)
        variance += float(standard_error_of_log_mean(log_weights)) ** 2
    assert_z(total, system.log_z(0), variance**0.5)


def correlated_system():
    """A correlated 64-dimensional Gaussian whose last level still holds alpha = 0.3 of signal."""
    sigma_max = math.sqrt(1 - 0.3**2)
    schedule = NoiseSchedule.log_spaced(3, sigma_min=0.3, sigma_max=sigma_max)
    ones = torch.ones(64, 64, dtype=torch.float64)
    return gaussian_sequence(torch.zeros(64), 0.1 * torch.eye(64) + 0.9 * ones, schedule, offsets=(0.0, 0.0))


def gradient_of_constants(system, base_rows, rows_per_level):
    """Mean of (probability - label) of each level's logit over rows, with its standard error."""
    grid = torch.arange(system.schedule.num_levels, dtype=torch.float64)
    rows = torch.cat([*rows_per_level, base_rows])
    labels = torch.arange(len(rows_per_level) + 1).repeat_interleave(len(base_rows))
    with torch.no_grad():
        shares = level_logits(system.model, rows, grid).softmax(1)
    gradient = shares - torch.nn.functional.one_hot(labels, shares.shape[1])
    return gradient.mean(0), gradient.std(0) / len(rows) ** 0.5


def test_base_class_is_drawn_from_the_base():
    """Gradient of the constants is zero at the truth; noising data in place of drawing N(0, I) tilts it."""
    system = correlated_system()
    generator = seeded_generator(5)
    num_rows = 4000
    levels = [system.sample(num_rows, level, generator=generator) for level in range(3)]
    base = torch.randn(num_rows, 64, generator=generator, dtype=torch.float64)
    gradient, error = gradient_of_constants(system, base, levels)
    assert_z(gradient, 0.0, error)
    noised = system.sample(num_rows, 3, generator=generator)
    gradient, error = gradient_of_constants(system, noised, levels)
    assert float((gradient / error).abs().max()) > 10


class _Drifted(torch.nn.Module):
    """A network with something added to its output."""

    def __init__(self, network, drift):
        super().__init__()
        self.network, self.drift = network, drift

    def forward(self, x, log_snr):
        return self.network(x, log_snr) + self.drift(x, log_snr)


DRIFTS = {
    "1000 x_1^2": lambda x, log_snr: 1000 * x[:, 0] ** 2,
    "constants": lambda x, log_snr: 30 * log_snr,
    "a shift of all constants": lambda x, log_snr: 50.0 + 0 * x[:, 0],
}


@pytest.mark.parametrize("name", DRIFTS)
def test_validation_loss_worsens_when_the_model_drifts(name):
    system = GaussianMixtureSequence.example(dim=2, schedule=NoiseSchedule.log_spaced(6))
    system = GaussianMixtureSequence(system.weights, system.means, system.covariances, system.schedule, (0.0, 0.0))
    x = system.sample(1000, None, generator=seeded_generator(6))
    steps = torch.full((6,), 0.8, dtype=torch.float64)
    model = system.model
    good = validation_loss(model, x, steps).total
    model.network = _Drifted(model.network, DRIFTS[name])
    assert validation_loss(model, x, steps).total > good + 1.0


def test_classification_is_best_at_the_truth():
    """Cross-entropy at the exact model is below that of a model with one level's constant moved by 0.3."""
    system = GaussianMixtureSequence.example(dim=2, schedule=NoiseSchedule.log_spaced(6))
    truth = GaussianMixtureSequence(system.weights, system.means, system.covariances, system.schedule, (0.0, 0.0))
    moved = GaussianMixtureSequence(system.weights, system.means, system.covariances, system.schedule, (0.3, 0.0))
    x = truth.sample(20_000, None, generator=seeded_generator(7))
    losses = [float(classification_loss(s.model, x, generator=seeded_generator(8)).detach()) for s in (truth, moved)]
    assert losses[0] < losses[1]
