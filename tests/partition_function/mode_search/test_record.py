"""The record of a search: unseen shares by mass, and visits of draws."""

import dataclasses

import pytest
import torch

from drl_density.partition_function.mode_search.record import Mode, ModeSearch, unseen_share
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


def test_it_estimates_the_unseen_share_of_a_known_multinomial():
    """Good's share has the mean of the true unseen share; ours lies above it by the one supposed search in 101."""
    generator = torch.Generator().manual_seed(0)
    shares = (torch.arange(1, 61).double() ** -1.0) / (torch.arange(1, 61).double() ** -1.0).sum()
    estimated, true = [], []
    for _ in range(400):
        hits = torch.bincount(torch.multinomial(shares, 100, replacement=True, generator=generator), minlength=60)
        estimated.append(unseen_share(hits[hits > 0].tolist()))
        true.append(float(shares[hits == 0].sum()))
    estimated, true = torch.tensor(estimated), torch.tensor(true)
    error = float((estimated - true).std() / 20)
    assert abs(float(estimated.mean() - true.mean()) - 1 / 101) < 4 * error + 1 / 101 * 0.2


@pytest.mark.parametrize(("hits", "share"), [([], 1.0), ([1], 1.0), ([99], 0.01), ([40, 40, 19], 0.01), ([1] * 9, 1.0)])
def test_few_searches_never_give_a_small_share(hits, share):
    assert unseen_share(hits) == pytest.approx(share)
