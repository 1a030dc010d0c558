"""The noise schedule: algebra, the paper's table, Markov pairs, bad input."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.testing import assert_z, seeded_generator

SCHEDULES = {
    "log_spaced": lambda: NoiseSchedule.log_spaced(10),
    "linear_beta": NoiseSchedule.linear_beta,
    "cosine": lambda: NoiseSchedule.cosine(6),
    "truncated": lambda: NoiseSchedule.log_spaced(10).truncate(1.5),
    "refined": lambda: NoiseSchedule.log_spaced(4).refine(50),
}


@pytest.fixture(params=SCHEDULES, ids=list(SCHEDULES))
def schedule(request):
    return SCHEDULES[request.param]()


def test_variance_is_preserved(schedule):
    torch.testing.assert_close(
        schedule.alpha**2 + schedule.sigma**2, torch.ones(schedule.num_levels + 1).double(), rtol=1e-10, atol=0
    )


def test_steps_compose_to_the_cumulative_noise(schedule):
    alpha, sigma = schedule.alpha, schedule.sigma
    composed = schedule.step_alpha**2 * sigma[:-1] ** 2 + schedule.step_sigma**2
    torch.testing.assert_close(composed, sigma[1:] ** 2, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(schedule.step_alpha * alpha[:-1], alpha[1:], rtol=1e-10, atol=0)


def test_continuous_level_agrees_on_integers(schedule):
    levels = torch.arange(schedule.num_levels + 1)
    torch.testing.assert_close(schedule.log_snr_at(levels), schedule.log_snr, rtol=1e-10, atol=1e-12)


def test_a_jump_equals_two_steps(schedule):
    alpha, sigma = schedule.step_between(0, 2)
    a, s = schedule.step_alpha, schedule.step_sigma
    torch.testing.assert_close(alpha, a[0] * a[1], rtol=1e-10, atol=0)
    torch.testing.assert_close(sigma**2, a[1] ** 2 * s[0] ** 2 + s[1] ** 2, rtol=1e-10, atol=1e-14)


# t, alpha, sigma, sigma of the step, a, c^2, s, s^2 / sigma^2, loss weight: the six levels of the paper's T6 setting, to
# the digits printed there; at the top a is 1 in the release.
T6 = [
    (0, 0.99995, 0.0100, 0.3237, 0.9462, 1.00, 0.00458, 2.0e-4, 1.000),
    (1, 0.94612, 0.3238, 0.5165, 0.8563, 32.4, 0.0416, 6.5e-3, 0.627),
    (2, 0.81015, 0.5862, 0.6322, 0.7748, 58.6, 0.0685, 1.17e-2, 0.512),
    (3, 0.62770, 0.7785, 0.7132, 0.7009, 77.8, 0.0890, 1.56e-2, 0.454),
    (4, 0.43997, 0.8980, 0.7734, 0.6340, 89.8, 0.1036, 1.80e-2, 0.419),
    (5, 0.27892, 0.9603, 0.9997, 0.0228, 96.0, 0.1386, 1.92e-2, 0.324),
]


@pytest.mark.parametrize("row", T6, ids=[f"level{row[0]}" for row in T6])
def test_the_papers_six_levels(row):
    """Rounded as the table is: half a unit of the last digit shown."""
    schedule = NoiseSchedule.linear_beta()
    level, alpha, sigma, step_sigma, step_alpha, ratio, step_size, relative, weight = row
    scaled_alpha, steps = schedule.langevin_steps()
    ours = schedule.sigma[level] / schedule.sigma[0]
    assert abs(float(schedule.alpha[level]) - alpha) <= 5.1e-6
    assert abs(float(schedule.sigma[level]) - sigma) <= 5.1e-5
    assert abs(float(schedule.step_sigma[level]) - step_sigma) <= 5.1e-5
    assert abs(float(schedule.step_alpha[level]) - step_alpha) <= 5.1e-5
    assert abs(float(ours) - ratio) <= 0.051
    assert abs(float(steps[level]) - step_size) <= (5.1e-6 if level == 0 else 5.1e-5)
    assert abs(float((steps / schedule.step_sigma)[level] ** 2) - relative) <= (1e-12 if level == 0 else 5.1e-5)
    assert abs(float((schedule.step_sigma[0] / schedule.step_sigma)[level]) - weight) <= 5.1e-4
    assert abs(float(scaled_alpha[level]) - (1.0 if level == 5 else step_alpha)) <= 5.1e-5
    assert abs(float(schedule.langevin_steps(is_top_marginal=False)[0][level]) - step_alpha) <= 5.1e-5


def test_the_papers_topmost_alpha():
    assert abs(float(NoiseSchedule.linear_beta().alpha[6]) - 0.00635) <= 5.1e-6


def test_the_cooperative_papers_six_levels():
    """alpha squared of levels 0..6 and the noise of the steps, to the three digits printed."""
    schedule = NoiseSchedule.cosine(6)
    alpha_squared = [0.99994, 0.936, 0.768, 0.535, 0.294, 0.102, 0.0061]
    step_sigma = [0.252, 0.424, 0.551, 0.671, 0.808, 0.970]
    for found, printed in zip(schedule.alpha.square().tolist(), alpha_squared, strict=True):
        assert abs(found - printed) <= (5.1e-6 if printed > 0.999 else 5.1e-5 if printed < 0.01 else 5.1e-4)
    for found, printed in zip(schedule.step_sigma.tolist(), step_sigma, strict=True):
        assert abs(found - printed) <= 5.1e-4


def upward_divergence(schedule, variance=0.25):
    """KL(p_{t+1} || p_t) per dimension of N(0, variance) data, in nats, for each step."""
    marginal = schedule.alpha**2 * variance + schedule.sigma**2
    ratio = marginal[1:] / marginal[:-1]
    return 0.5 * (ratio - 1 - ratio.log())


def test_the_papers_overlap_of_neighbouring_levels():
    """3072 pixels of variance 0.25, to the digits printed: no overlap between the six levels, much between a thousand."""
    six = 3072 * upward_divergence(NoiseSchedule.linear_beta())
    for found, printed in zip(six.tolist(), [62.9, 168.9, 92.2, 30.7, 7.4, 2.8], strict=True):
        assert abs(found - printed) <= 0.051
    thousand = 3072 * upward_divergence(NoiseSchedule.linear_beta(range(1000)))
    assert len(thousand) == 999
    assert abs(float(thousand.max()) - 0.0156) <= 5.1e-5
    assert abs(float(thousand.sum()) - 3.36) <= 5.1e-3


def test_pairs_have_the_markov_covariance():
    """Cov(x_t, x_{t+2}) = a Var(x_t) for data N(0, 4)."""
    schedule = NoiseSchedule.log_spaced(6)
    generator = seeded_generator(1)
    x = 2 * torch.randn(40_000, 1, generator=generator, dtype=torch.float64)
    cleaner, noisier = schedule.diffuse_pair(x, 1, jump=2, generator=generator)
    variance = 4 * schedule.alpha[1] ** 2 + schedule.sigma[1] ** 2
    assert_z(cleaner * noisier, float(schedule.step_between(1, 3)[0] * variance))
    assert_z(noisier**2, float(4 * schedule.alpha[3] ** 2 + schedule.sigma[3] ** 2))


def test_levels_per_row():
    schedule = NoiseSchedule.log_spaced(4)
    x = torch.ones(3, 2)
    level = torch.tensor([0.0, 1.5, 4.0])
    noised = schedule.diffuse(x, level, generator=seeded_generator(2))
    again = schedule.diffuse(x[1:2], 1.5, generator=seeded_generator(2))
    assert noised.shape == (3, 2)
    assert again.shape == (1, 2)


BAD = [
    (lambda: NoiseSchedule([1.0, 2.0]), "strictly falling"),
    (lambda: NoiseSchedule([1.0]), "at least 2"),
    (lambda: NoiseSchedule.log_spaced(3, sigma_min=0.9, sigma_max=0.5), "sigma_min < sigma_max"),
    (lambda: NoiseSchedule.linear_beta((5, 3)), "base_steps must rise"),
    (lambda: NoiseSchedule.cosine(3, log_snr_max=-1, log_snr_min=1), "log_snr_min < log_snr_max"),
    (lambda: NoiseSchedule.log_spaced(3).log_snr_at(3.5), "level must lie in"),
    (lambda: NoiseSchedule.log_spaced(3).step_between(2, 1), "must lie above"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[row[1] for row in BAD])
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
