"""Decay up to the last numbers of a support."""

import math

import pytest
import torch
from torch.distributions import constraints

from drl_density.partition_function.tails.examine import examine_tails, screen_tails
from drl_density.partition_function.tails.report import Integrability
from drl_density.partition_function.targets.coordinates import Coordinates
from drl_density.partition_function.targets.flat_density import FlatDensity
from drl_density.testing import seeded_generator

ABOVE_1 = constraints.greater_than(1.0)
SUPPORTS = {
    "positive": constraints.positive,
    "unit": constraints.unit_interval,
    "above 1": ABOVE_1,
    "below 2": constraints.less_than(2.0),
}


def flat(log_density, support, dim=1, dtype=torch.float64):
    own = constraints.simplex if support is constraints.simplex else constraints.independent(support, 1)
    return FlatDensity(lambda x: log_density(x).sum(-1), Coordinates.onto(own, torch.Size((dim,))), dtype=dtype)


def draws(dim):
    return torch.randn(4, 64, dim, generator=seeded_generator(dim), dtype=torch.float64)


INFINITE = {
    "1 / x": (lambda x: -x.log(), "positive", 1),
    "1 / x in three dimensions": (lambda x: -x.log(), "positive", 3),
    "1 / x by its square": (lambda x: -0.5 * x.square().log(), "positive", 1),
    "x^-1.05": (lambda x: -1.05 * x.log(), "positive", 1),
    "1 / (x (1 - x))": (lambda x: -x.log() - torch.log1p(-x), "unit", 1),
    "1 / (1 - x)": (lambda x: -torch.log1p(-x), "unit", 2),
    "1 / x below 1": (lambda x: -x.log(), "unit", 1),
    "1 / x above 1": (lambda x: -x.log(), "above 1", 1),
    "1 / (2 - x)": (lambda x: -(2 - x).log(), "below 2", 1),
}


@pytest.mark.parametrize("name", INFINITE)
def test_a_density_that_is_flat_up_to_the_last_number_is_improper(name):
    log_density, support, dim = INFINITE[name]
    target = flat(log_density, SUPPORTS[support], dim)
    report = screen_tails(target, draws(dim), hold=target.hold)
    assert report is not None
    assert report.integrability is Integrability.IMPROPER
    assert "out to the last numbers of the support" in str(report)


def test_without_the_ends_of_numbers_it_looks_proper():
    target = flat(lambda x: -x.log(), constraints.positive)
    assert screen_tails(target, draws(1)) is None
    assert examine_tails(target, draws(1)).integrability is Integrability.INTEGRABLE


def test_single_precision_ends_sooner():
    """exp(88) is the largest number of float32; a density seen in it has the tail of its own numbers."""
    target = flat(lambda x: -x.float().log().double(), constraints.positive, dtype=torch.float32)
    report = screen_tails(target, draws(1), hold=target.hold)
    assert report is not None
    assert report.deciding.steps < 7


def angles():
    sharp, means = torch.tensor([0.5, 2.0, 20.0, 500.0]), torch.tensor([0.0, 3.0, -1.0, 2.0])
    return flat(lambda x: sharp * torch.cos(x - means), constraints.interval(-math.pi, math.pi), 4)


@pytest.mark.parametrize("seed", [0, 5])
def test_a_narrow_mode_that_rows_cross_while_another_coordinate_ends_is_no_infinite_integral(seed):
    target = angles()
    rows = torch.randn(2, 32, 4, generator=seeded_generator(seed), dtype=torch.float64)
    assert screen_tails(target, rows, hold=target.hold) is None


def test_a_ridge_that_is_flat_up_to_the_last_numbers_is_improper():
    """A function of x / y over x y, whose rows have to move along both logarithms together."""
    target = flat(lambda x: -x.log() - 0.25 * (x / x.flip(-1)).log().square(), constraints.positive, 2)
    rows = draws(2)
    assert screen_tails(target, rows.mean(-1, keepdim=True) + 0.3 * rows, hold=target.hold) is not None


PROPER = {
    "log-normal, sd 50": (lambda x: -x.log() - 0.5 * (x.log() / 50).square(), "positive", 50.0),
    "x^-1.05 above 1": (lambda x: -1.05 * x.log(), "above 1", 10.0),
    "gamma of 0.1": (lambda x: -0.9 * x.log() - x, "positive", 5.0),
    "uniform": (lambda x: 0.0 * x, "unit", 2.0),
    "Gaussian": (lambda x: -0.5 * x.square(), "positive", 1.0),
}


@pytest.mark.parametrize("name", PROPER)
def test_proper_densities_over_a_support_are_integrable(name):
    log_density, support, width = PROPER[name]
    target = flat(log_density, SUPPORTS[support], 2)
    assert screen_tails(target, draws(2), hold=target.hold) is None
    report = examine_tails(target, width * draws(2), hold=target.hold, generator=seeded_generator(0))
    assert report.integrability is Integrability.INTEGRABLE


def test_mass_beyond_the_last_number_is_missing():
    """Of x^-1.01 above 1, the share exp(-0.01 * 709) = 8.3e-4 lies beyond; of x^-1.005, 0.029, beyond what draws reach."""
    for power, share in ((1.01, 8.3e-4), (1.005, 0.029)):
        target = flat(lambda x, power=power: -power * x.log(), ABOVE_1)
        exact = -torch.rand(4, 512, 1, generator=seeded_generator(1), dtype=torch.float64).log() / (power - 1)
        report = examine_tails(target, exact, hold=target.hold, generator=seeded_generator(2))
        assert report.integrability is Integrability.INTEGRABLE
        assert report.missing == 0 or share / 3 < report.missing < 3 * share
        assert (report.missing > 0.01) == (share > 0.01)


def test_a_decay_that_hardly_begins_before_the_numbers_end_is_undecided():
    target = flat(lambda x: -0.9999 * x.log() - x, constraints.positive)
    report = examine_tails(target, -200 * draws(1).abs(), hold=target.hold, generator=seeded_generator(3))
    assert report.integrability is Integrability.UNDECIDED
    assert "hardly falls, out to the last numbers" in str(report)


def test_draws_beyond_the_last_number_decide_nothing():
    target = flat(lambda x: -x.log(), constraints.positive)
    report = examine_tails(target, 800 + draws(1).abs(), hold=target.hold)
    assert report.integrability is Integrability.UNDECIDED


def test_a_slow_power_in_log_space_has_its_exponent():
    """1 / (x log^2 x) has mass beyond r, in log space, that falls as 1 / r."""
    target = flat(lambda x: -x.log() - 2 * torch.log1p(x.log().abs()), constraints.positive)
    cauchy = draws(1) / draws(2)[..., :1]
    report = examine_tails(target, cauchy, hold=target.hold, generator=seeded_generator(4))
    assert report.integrability is Integrability.INTEGRABLE
    assert report.deciding.exponent == pytest.approx(-1.0, abs=0.05)
    assert math.log2(300) < report.deciding.steps + math.log2(float(cauchy.abs().median())) < math.log2(900)
