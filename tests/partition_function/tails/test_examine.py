"""Decay, integrability and reach of tails whose truth is known."""

import math

import pytest
import torch

from drl_density.partition_function.tails.examine import _missing, examine_tails, screen_tails
from drl_density.partition_function.tails.report import Integrability
from drl_density.partition_function.target_bases.scale_base import ScaleRegression
from drl_density.testing import seeded_generator
from tests.partition_function.known_answers import funnel


def normal(*shape, seed=0):
    return torch.randn(4, 128, *shape, generator=seeded_generator(seed), dtype=torch.float64)


def cauchy(dim, seed=1):
    noise = normal(2 * dim, seed=seed)
    return noise[..., :dim] / noise[..., dim:]


def product_of_cauchys(x):
    return -torch.log1p(x.square()).sum(-1)


def student(x):
    return -0.5 * (2 + x.shape[-1]) * torch.log1p(x.square().sum(-1) / 2)


def box(x):
    return torch.where((x.abs() < 1).all(-1), 0.0, -torch.inf)


def log_tail(x):
    far = 2 + x[..., 0].abs()
    return -far.log() - 2 * far.log().log()


PROPER = {
    "Gaussian": (lambda x: -0.5 * x.square().sum(-1), normal(3), -math.inf),
    "Laplace": (lambda x: -x.abs().sum(-1), normal(2), -math.inf),
    "box": (box, 0.3 * normal(2).tanh(), -math.inf),
    "Cauchy product": (product_of_cauchys, cauchy(4), -1.0),
    "t of two degrees": (student, normal(3) / normal(2, seed=2).square().mean(-1, keepdim=True).sqrt(), -2.0),
    "power of 1.2": (lambda x: -1.2 * torch.log1p(x.abs()).sum(-1), 20 * cauchy(1), -0.2),
}


@pytest.mark.parametrize("name", PROPER)
def test_proper_tails_have_the_exponent_of_their_mass(name):
    log_density, draws, exponent = PROPER[name]
    report = examine_tails(log_density, draws, generator=seeded_generator(3))
    assert report.integrability is Integrability.INTEGRABLE
    if exponent == -math.inf:
        assert report.deciding.exponent < -100
        assert "faster than any power" in str(report)
    else:
        assert report.deciding.exponent == pytest.approx(exponent, abs=1e-3)
        assert f"r^{exponent:.3g}" in str(report)


FLAT_DIAGONAL = torch.cat([10 * normal(1) + normal(1, seed=5), -10 * normal(1)], -1)
IMPROPER = {
    "1 / (1 + |x|)": (lambda x: -torch.log1p(x.abs()).sum(-1), 20 * cauchy(1)),
    "flat in one coordinate": (lambda x: -0.5 * x[..., :2].square().sum(-1), 9 * normal(3)),
    "flat along a diagonal": (lambda x: -0.5 * x.sum(-1).square(), FLAT_DIAGONAL),
    "two of five together": (
        lambda x: -torch.log1p(x[..., :2].square().sum(-1)) - 0.5 * x[..., 2:].square().sum(-1),
        torch.cat([cauchy(2), normal(3)], -1),
    ),
    "growing": (lambda x: 1e-3 * x.square().sum(-1), normal(2)),
}


@pytest.mark.parametrize("name", IMPROPER)
def test_improper_targets_are_found(name):
    report = examine_tails(*IMPROPER[name], generator=seeded_generator(4))
    assert report.integrability is Integrability.IMPROPER
    assert "does not fall" in str(report)


def test_logarithmic_tails_cannot_be_decided():
    """The integral of 1 / (x log^2 x) is finite, that of 1 / (x log x) is not; no number is large enough to tell."""
    for log_density in (log_tail, lambda x: log_tail(x) + (2 + x[..., 0].abs()).log().log()):
        report = examine_tails(log_density, 20 * cauchy(1))
        assert report.integrability is Integrability.UNDECIDED
        assert "cannot be decided" in str(report)


def test_draws_that_end_too_early_are_found_and_exact_ones_are_not():
    draws = cauchy(4)
    assert examine_tails(product_of_cauchys, draws, generator=seeded_generator(5)).missing == 0
    inner = torch.where(draws.abs() > 15, normal(4, seed=6), draws)
    report = examine_tails(product_of_cauchys, inner, generator=seeded_generator(5))
    # P(|x| > 16) = 0.0397; the draws that were beyond are missing there.
    assert 0.01 < report.missing < 0.08
    assert "coordinate" in report.worst_reached.label
    assert report.worst_reached.beyond >= 1


def test_many_comparisons_ask_for_a_larger_gap():
    """Draws too narrow along one coordinate by 18 % are 3.9 errors off: too far for one, not for the worst of twenty."""
    draws = torch.randn(32, 16, 20, generator=seeded_generator(9), dtype=torch.float64)
    places = (torch.randperm(512, generator=seeded_generator(10)) + 0.5) / 512
    draws[..., 0] = 0.82 * torch.special.ndtri(places.double()).reshape(32, 16)
    one, all_of_them = (
        examine_tails(lambda x: -0.5 * x.square().sum(-1), part, generator=seeded_generator(1)).missing
        for part in (draws[..., :1], draws)
    )
    # Moved draws put P(|x| > 1.11) = 0.27 beyond twice the median, to within 0.02, and 0.18 of the draws are there.
    assert one == pytest.approx(0.09, abs=0.05)
    assert all_of_them == 0


def test_a_share_that_no_draw_has_yet_is_no_gap():
    """Of 256 draws 5 are expected beyond: none is there once in 150 times."""
    predicted, seen = torch.full((8, 32, 1), 0.02).double(), torch.zeros(8, 32, 1).double()
    assert _missing(predicted, seen, 1) == (0.0, 0.0)
    assert _missing(predicted.repeat(1, 16, 1), seen.repeat(1, 16, 1), 1) == (pytest.approx(0.02), 1.0)


def test_a_neck_that_draws_do_not_reach_is_found_along_the_driver():
    first = 3 * normal(1)
    exact = torch.cat([first, (first / 2).exp() * normal(5, seed=7)], -1)
    rows = exact.flatten(0, 1)
    neckless = rows[rows[:, 0] > -3]
    kept = neckless[torch.randint(len(neckless), (len(rows),), generator=seeded_generator(8))].reshape(exact.shape)
    report = examine_tails(funnel, kept, chart=ScaleRegression.fit(kept.flatten(0, 1)))
    assert report.missing > 0.05
    assert report.worst_reached.label.startswith("coordinate 0 down")
    whole = examine_tails(funnel, exact, chart=ScaleRegression.fit(rows))
    assert whole.missing == 0
    assert whole.integrability is Integrability.INTEGRABLE


def test_a_coordinate_without_width_is_left_out():
    draws = normal(2)
    draws[..., 1] = 2.0
    report = examine_tails(lambda x: -0.5 * x[..., 0].square(), draws)
    assert report.tails[1].steps == 0
    assert report.missing == 0


INFINITE = {
    "flat": lambda x: 0.0 * x.sum(-1),
    "1 / r": lambda x: -torch.log1p(x[..., 0].abs()) - x[..., 1:].square().sum(-1),
    "oblique ridge": lambda x: -(x[..., 0] - 2 * x[..., 1]).square() - x[..., 2].square(),
    "growing": lambda x: x.abs().sum(-1),
}


@pytest.mark.parametrize("name", INFINITE)
def test_an_infinite_integral_is_seen_from_any_points(name):
    report = screen_tails(INFINITE[name], normal(3))
    assert report is not None
    assert report.integrability is Integrability.IMPROPER


@pytest.mark.parametrize("name", PROPER)
def test_a_finite_integral_passes_the_screen_from_any_points(name):
    log_density, draws, _ = PROPER[name]
    assert screen_tails(log_density, 0.1 * normal(draws.shape[-1])) is None


def test_a_far_mode_off_the_axes_is_no_infinite_integral():
    """From the origin the mass grows along the way to a mode 1e8 away, farther than rotated axes are followed."""
    assert screen_tails(lambda x: -0.5 * (x - 1e8).square().sum(-1), normal(2)) is None


def test_few_draws_of_a_wide_gaussian_do_not_miss_its_tail_by_chance():
    """64 draws in 8 replicates: each family's gap has an error of about 0.02, and replicates agree by luck now and then."""
    for seed in range(40):
        draws = torch.randn(8, 64, 5, generator=seeded_generator(seed), dtype=torch.float64)
        report = examine_tails(lambda x: -0.5 * x.square().sum(-1), draws, generator=seeded_generator(seed))
        assert report.missing <= 0.01


def test_a_way_through_a_region_of_lower_density_is_no_infinite_integral():
    """Along the longest axis the log density falls to -1e5 and rises again, as behind a neck, far below the bulk."""

    def dip(x):
        wall = 0.5 * torch.exp(-x.sum(-1).abs() / 1e4)
        return -(1e-12 + wall) * x.square().sum(-1)

    line = normal(1) * torch.ones(2).double() + 0.1 * normal(2, seed=1)
    report = examine_tails(dip, line, generator=seeded_generator(0))
    (axis,) = (tail for tail in report.tails if tail.label == "the longest axis of the draws")
    assert axis.exponents[-2] < -1e4
    assert axis.exponents[-1] > 1e4
    assert report.integrability is Integrability.INTEGRABLE
