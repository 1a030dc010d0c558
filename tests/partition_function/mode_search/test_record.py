"""The record of a search: unseen shares by mass, and visits of draws."""

import dataclasses

import pytest
import torch

from drl_density.partition_function.mode_search.record import Mode, ModeSearch
from drl_density.partition_function.mode_search.shape import measure_shape


def mode(center=0.0, **changes):
    shape = measure_shape(lambda x: -0.5 * (x - center).square().sum(-1), torch.full((2,), center).double())
    return dataclasses.replace(Mode(shape, hits=50, pilots=4, given=0, mass=0.5, least_mass=0.5), **changes)


def record(*modes):
    return ModeSearch(modes, 100, 4, 0, 64.0, 0.9, 1000)


def test_light_modes_that_were_seen_once_do_not_count():
    assert record(mode(hits=99), mode(hits=1, mass=1e-5)).unseen == pytest.approx(1 / 100)
    assert record(mode(hits=99), mode(hits=1, mass=0.1)).unseen == pytest.approx(2 / 101)


def test_a_mode_of_one_start_alone_counts_with_its_mass():
    """Of 8,192 starts a single one has found half of the mass: as much may lie where none has been."""
    assert record(mode(hits=8191), mode(hits=1, pilots=0, mass=0.5)).unseen == pytest.approx(0.5)
    assert record(mode(hits=8191), mode(hits=1, pilots=1, mass=0.5)).unseen == pytest.approx(2 / 8193)
    assert record(mode(hits=8190), mode(hits=2, pilots=0, mass=0.5)).unseen == pytest.approx(1 / 8193)


def test_a_mode_of_one_pilot_alone_counts_with_its_mass():
    assert record(mode(hits=100), mode(hits=0, pilots=1, mass=0.4)).unseen == pytest.approx(0.4)
    assert record(mode(hits=100), mode(hits=0, pilots=2, mass=0.4)).unseen == pytest.approx(1 / 101)
    assert record(mode(hits=100), mode(hits=0, pilots=0, given=1, mass=0.4)).unseen == pytest.approx(1 / 101)


def test_draws_visit_the_mode_whose_gaussian_is_highest():
    draws = torch.cat([torch.zeros(3, 2), torch.full((1, 2), 9.0)])
    assert record(mode(), mode(10.0)).visited_by(draws).visits == (0.75, 0.25)
    assert record().visited_by(draws).visits == ()
