"""Tails, by quadrature over a bounded image of the line, and by draws."""

import math

import pytest
import torch

from drl_density.testing import known_targets
from drl_density.testing.targets.quadrature import log_integral
from drl_density.testing.targets.tails import (
    TARGETS,
    logistic,
    multivariate_student,
    power_tail,
    powered,
    student_pair,
    student_product,
)
from tests.testing.targets.routes import assert_draws


def log_integral_of_line(log_density, num_panels=40):
    """Integral over the line through x = t / (1 - |t|)^4, for tails of powers from 1.5 on."""

    def pulled_back(t):
        rest = 1 - t.abs()
        x = t / rest.pow(4)
        return log_density(x) + (rest.pow(-4) + 4 * t.abs() * rest.pow(-5)).log().squeeze(-1)

    halves = [log_integral(pulled_back, [ends], num_panels) for ends in ((-1.0, 0.0), (0.0, 1.0))]
    return math.log(sum(map(math.exp, halves)))


@pytest.mark.parametrize(
    "definition",
    [
        student_product(1, 1.0),
        student_product(1, 3.0),
        multivariate_student(1, 2.0),
        powered(1, 1.0, ""),
        powered(1, 0.5, ""),
        powered(1, 8.0, ""),
        logistic(1),
        power_tail(1.5),
    ],
)
def test_one_coordinate_by_quadrature(definition):
    assert definition.log_z == pytest.approx(log_integral_of_line(definition.log_density), abs=1e-6)


@pytest.mark.parametrize(("dim", "freedom"), [(2, 1.0), (3, 1.0), (10, 2.0)])
def test_shared_scales_by_quadrature_of_the_radius(dim, freedom):
    definition = multivariate_student(dim, freedom)
    log_area = math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(dim / 2)

    def radial(r):
        x = torch.cat([r.abs(), torch.zeros(len(r), dim - 1).double()], 1)
        return definition.log_density(x) + (dim - 1) * r.abs().log().squeeze(-1) - math.log(2)

    assert definition.log_z == pytest.approx(log_integral_of_line(radial) + log_area, abs=1e-6)


@pytest.mark.parametrize(
    ("definition", "center", "scale"),
    [
        (student_product(2, 1.0), 0.5, 0.5),
        (multivariate_student(3, 2.0), 0.5, 0.6),
        (powered(2, 0.5, ""), 2.0, 0.5),
        (powered(2, 8.0, ""), 0.2, 0.25),
        (logistic(2), 3.0, 8.0),
        (power_tail(1.5), 1.0, 0.5),
        (student_pair(3, 5.0, 12.0), torch.tensor([12.0, 0.0, 0.0]), 0.7),
    ],
)
def test_draws(definition, center, scale):
    assert_draws(definition, center, scale, num_samples=8000)


def test_pairs_are_normalised():
    assert student_pair(1, 5.0, 12.0).log_z == pytest.approx(
        log_integral_of_line(student_pair(1, 5.0, 12.0).log_density, 200), abs=1e-5
    )


@pytest.mark.parametrize("name", [name for name in TARGETS if name.startswith("improper")])
def test_improper_integrals_grow_without_end(name):
    """Integrals over cubes of sides 20, 200 and 2,000 grow by more than half a nat each time, or ever more."""
    definition = TARGETS[name]()
    assert math.isinf(definition.log_z)
    if name == "improper_oblique_3d":  # the other two directions integrate to a constant
        line = lambda r: definition.log_density(torch.cat([r, 2 * r, 0 * r], 1) / 5)  # noqa: E731
        found = [log_integral(line, [(-half, half)], 4000) for half in (10.0, 100.0, 1000.0)]
    else:
        dim = len(torch.zeros(definition.shape))
        found = [log_integral(definition.log_density, [(-half, half)] * dim, 60) for half in (10.0, 30.0, 90.0)]
    assert found[1] - found[0] > 0.2
    assert found[2] - found[1] > 0.2


def test_only_these_are_improper():
    improper = [target.name for target in known_targets("tails") if not target.is_proper]
    assert improper == [name for name in TARGETS if name.startswith("improper")]
