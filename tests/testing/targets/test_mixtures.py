"""Mixtures are normalised up to their constant; by quadrature where one or two coordinates allow."""

import math

import pytest
import torch

from drl_density.testing.targets.mixtures import (
    TARGETS,
    correlated_parts,
    forty,
    mixture,
    pair,
    skewed_pair,
    spike_and_slab,
)
from tests.testing.targets.routes import assert_draws, checked_draws, integral


@pytest.mark.parametrize(
    ("name", "half", "num_panels", "center"),
    [
        ("pair_at_30_1d", 40.0, 400, 10.0),
        ("spike_and_slab_1d", 20.0, 400, 0.0),
        ("seven_narrow_1d", 4.0, 4000, 0.0),
        ("ring_of_eight_2d", 6.0, 24, 0.0),
        ("grid_of_25_2d", 14.0, 24, 0.0),
        ("two_modes_100_apart_2d", 80.0, 80, 35.0),
    ],
)
def test_by_quadrature(name, half, num_panels, center):
    definition = TARGETS[name]()
    assert definition.log_z == pytest.approx(integral(definition, half, num_panels, center=center), abs=1e-8)


def test_parts_in_any_number_of_coordinates_are_torch_s():
    means = torch.tensor([[0.0, 1.0, 2.0], [3.0, -1.0, 0.0]])
    own = mixture([1.0, 3.0], means, [0.5, 2.0], "", 4.0)
    scales = torch.tensor([0.5, 2.0]).double()[:, None].expand(2, 3)
    parts = torch.distributions.Independent(torch.distributions.Normal(means.double(), scales), 1)
    weights = torch.distributions.Categorical(torch.tensor([0.25, 0.75]).double())
    x = own.draws(20, None)
    expected = torch.distributions.MixtureSameFamily(weights, parts).log_prob(x) + 4.0
    assert torch.allclose(own.log_density(x), expected)
    assert_draws(own, means[1], 1.0)


def test_a_pair_lies_as_far_apart_as_it_says():
    definition = pair(10, 20.0, (0.5, 0.5), (1.0, 1.0), "")
    there = torch.full((10,), 20 / math.sqrt(10)).double()
    assert float(there.norm()) == pytest.approx(20)
    heights = definition.log_density(torch.stack([torch.zeros(10).double(), there]))
    assert torch.allclose(heights, torch.full((2,), -5 * math.log(2 * math.pi) - math.log(2)).double())


def test_forty_modes():
    x = checked_draws(forty(2), 400)
    assert float(x.abs().max()) < 45
    assert float(x.std()) > 15
    assert len((x / 4).round().unique(dim=0)) > 30


def test_correlated_parts_by_quadrature_of_two_coordinates_and_by_draws():
    flat = correlated_parts(2, 3)
    assert flat.log_z == pytest.approx(integral(flat, 25.0, 50), abs=1e-8)
    assert_draws(flat, flat.draws(4000, None)[0], 0.05)


def test_spike_and_slab_factorises():
    one, two = spike_and_slab(1, 0.1, 2.0), spike_and_slab(2, 0.1, 2.0)
    x = torch.tensor([[0.3, -1.0]]).double()
    assert torch.allclose(two.log_density(x), one.log_density(x[:, :1]) + one.log_density(x[:, 1:]))
    assert one.log_z == pytest.approx(integral(one, 20.0, 200), abs=1e-9)
    assert_draws(two, 0.0, 0.08)


def test_skewed_modes_by_quadrature_and_draws():
    flat = skewed_pair(2)
    assert flat.log_z == pytest.approx(integral(flat, 8.0, 36), abs=1e-6)
    assert_draws(flat, 0.7, 0.2)
