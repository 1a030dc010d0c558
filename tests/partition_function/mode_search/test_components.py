"""Components at known modes: normalised, exact draws, and sizes by the mass that they explain."""

import math

import pytest
import torch

from drl_density.partition_function.mode_search.components import ComponentBase, size_components
from drl_density.partition_function.mode_search.shape import measure_shape
from drl_density.testing import assert_z


def two(x, heavier=0.7):
    first = math.log(1 - heavier) - 0.5 * x[:, 0].square()
    return torch.logaddexp(first, math.log(heavier) - math.log(0.1) - 0.5 * ((x[:, 0] - 30) / 0.1).square())


def shapes():
    return [measure_shape(two, torch.tensor([center]).double()) for center in (0.0, 30.0)]


def test_the_density_integrates_to_one_and_draws_follow_it():
    base = ComponentBase(shapes(), torch.tensor([[0.3, 0.2], [0.1, 0.4]]))
    grid = torch.linspace(-400, 400, 800_001).double()[:, None]
    assert float(base.log_prob(grid).exp().sum() * 1e-3) == pytest.approx(1, abs=1e-3)
    draws = base.draw(4000, torch.Generator().manual_seed(0))[:, 0]
    share = float((draws > 15).double().mean())
    # Wide t(5) tails of the first mode cross 15 with probability 1e-5.
    assert_z(share, 0.6, math.sqrt(0.24 / 4000))


def test_sizes_are_masses_and_log_z_is_exact():
    sized = size_components(two, shapes(), generator=torch.Generator().manual_seed(0))
    assert sized.efficiency > 0.8
    assert_z(sized.log_z, 0.5 * math.log(2 * math.pi), math.sqrt((1 / sized.efficiency - 1) / 2048) + 1e-4)
    masses = sized.shares((sized.draws[:, 0] > 15).long(), 2)
    assert float(masses[1]) == pytest.approx(0.7, abs=0.05)


def test_components_without_mass_are_dropped():
    sized = size_components(lambda x: two(x, 1 - 1e-9), shapes(), generator=torch.Generator().manual_seed(0))
    (kept,) = sized.refined(1e-4).shapes
    assert float(kept.center) == 30
    assert len(sized.refined(2.0).shapes) == 1  # the largest stays
    assert len(sized.refined(0.0).shapes) == 2


def test_a_target_that_is_zero_everywhere_has_no_sizes():
    sized = size_components(lambda x: torch.full((len(x),), -math.inf).double(), shapes())
    assert sized.efficiency == 0
    assert sized.log_z == -math.inf


def test_the_largest_components_are_kept_with_their_shares():
    base = ComponentBase(shapes(), torch.tensor([[0.3, 0.4], [0.1, 0.2]]))
    kept = base.largest(1)
    assert [float(shape.center) for shape in kept.shapes] == [30.0]
    assert kept.weights.flatten().tolist() == pytest.approx([2 / 3, 1 / 3])
    assert base.largest(5).weights.sum() == pytest.approx(1)
