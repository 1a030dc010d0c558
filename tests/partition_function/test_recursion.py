"""The papers' level-by-level recursion against the bias it has, in closed form, where the levels' variances are off."""

import math

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.model import EnergySequence
from drl_density.partition_function import (
    level_recursion,
)
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator

SIX = NoiseSchedule.linear_beta()
THOUSAND = NoiseSchedule.linear_beta(range(1000))
DATA_VARIANCE = 0.25


def variances(schedule, error):
    """Variances m_0..m_T of models of N(0, 0.25) data that are off by ``error(t / T)``; the base is exact."""
    levels = torch.linspace(0, 1, schedule.num_levels + 1, dtype=torch.float64)
    exact = schedule.alpha**2 * DATA_VARIANCE + schedule.sigma**2
    return torch.cat([(exact * (1 + error(levels)))[:-1], torch.ones(1, dtype=torch.float64)])


def recursion_in_closed_form(schedule, m):
    """log Z_0..log Z_{T-1} per dimension by the recursion for F_t = -x^2 / (2 m_t), exp(F_T) normalised, with any number of
    ancestral draws.

    A draw of level t given one of t+1 has precision P = 1 / m_t + a^2 / s^2 and mean a x / (s^2 P), so that the variances
    of the draws fall from u_T = 1 by u_t = (a / (s^2 P))^2 u_{t+1} + 1 / P.
    """
    total, u = torch.tensor(0.5 * math.log(2 * math.pi)).double(), torch.ones(()).double()
    values = []
    for t in reversed(range(schedule.num_levels)):
        a, s = schedule.step_alpha[t], schedule.step_sigma[t]
        total = total - 0.5 * torch.log1p(u * (1 / m[t] - 1 / m[t + 1]))
        precision = 1 / m[t] + a**2 / s**2
        u = (a / (s**2 * precision)) ** 2 * u + 1 / precision
        values.append(total)
    return torch.stack(values[::-1])


def exact_log_z(m):
    return 0.5 * (2 * math.pi * m[:-1]).log()


# Error of the variances, bias of log Z_0 in nats per dimension at a thousand levels and at six.
BIASES = {
    "5 % wide": (lambda level: 0.05 + 0 * level, -0.0360, -0.0097),
    "5 % narrow": (lambda level: -0.05 + 0 * level, 0.0326, 0.0091),
    "10 % at the data": (lambda level: 0.1 * (1 - level), -0.0377, -0.0051),
    "level 0 alone": (lambda level: 0.05 * (level == 0), 0.0, 0.0),
    "none": (lambda level: 0 * level, 0.0, 0.0),
}


@pytest.mark.parametrize("name", BIASES)
def test_variances_that_are_off_bias_the_recursion(name):
    """-0.0360 and 0.0326 nats are -0.052 and 0.047 bits per dimension."""
    error, *biases = BIASES[name]
    for schedule, wanted in zip((THOUSAND, SIX), biases, strict=True):
        m = variances(schedule, error)
        bias = float(recursion_in_closed_form(schedule, m)[0] - exact_log_z(m)[0])
        assert abs(bias - wanted) <= 5.1e-5


class Gaussian(torch.nn.Module):
    """F_t = -|x|^2 / (2 m_t) at the levels of a schedule."""

    def __init__(self, schedule, m):
        super().__init__()
        self.register_buffer("log_snr", schedule.log_snr)
        self.register_buffer("m", m)

    def forward(self, x, log_snr):
        level = (self.log_snr - log_snr.reshape(-1, 1)).abs().argmin(1)
        return -0.5 * x.square().sum(-1) / self.m[level]


@pytest.mark.parametrize("name", BIASES)
def test_the_recursion_has_its_bias_on_ancestral_draws(name):
    """8 dimensions, six levels, draws that each stand on one of the level above."""
    error, _, _ = BIASES[name]
    m = variances(SIX, error)
    model = EnergySequence(SIX, Gaussian(SIX, m), (8,), has_base=False, is_integrable=True, dtype=torch.float64)
    generator = seeded_generator(1)
    num_replicates, num_draws = 40, 4000
    x = torch.randn(num_replicates, num_draws, 8, generator=generator, dtype=torch.float64)
    draws = [x]
    for t in reversed(range(1, SIX.num_levels)):
        a, s = SIX.step_alpha[t], SIX.step_sigma[t]
        precision = 1 / m[t] + a**2 / s**2
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        x = a * x / (s**2 * precision) + precision**-0.5 * noise
        draws.insert(0, x)
    found = torch.stack([level_recursion(model, [level[i] for level in draws]) for i in range(num_replicates)])
    assert_z(found, 8 * recursion_in_closed_form(SIX, m))
    if name in ("level 0 alone", "none"):
        assert_z(found[:, 0], 8 * exact_log_z(m)[0])
    else:
        with pytest.raises(AssertionError, match="beyond"):
            assert_z(found[:, 0], 8 * exact_log_z(m)[0])


def test_level_recursion_wants_every_level():
    system = GaussianMixtureSequence.example(dim=2, seed=1)
    with pytest.raises(ValueError, match="draws of levels 1 to"):
        level_recursion(system.model, [torch.zeros(3, 2)])
