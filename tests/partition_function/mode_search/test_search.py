"""The whole search: modes of known mass, shells without point modes, hints, data, and many modes."""

import math

import pytest
import torch

from drl_density.partition_function.mode_search.search import search_modes
from drl_density.partition_function.target_bases.mixture import MixtureBase


def normal(dim):
    return MixtureBase(torch.ones(1), torch.zeros(1, dim), torch.eye(dim)[None], torch.zeros(1).double())


def search(log_density, dim, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return search_modes(log_density, normal(dim), generator=generator, **options)


def far_pair(x):
    center = 20 / math.sqrt(10)
    return torch.logaddexp(-0.5 * x.square().sum(-1), -0.5 * (x - center).square().sum(-1))


def test_two_far_modes_have_half_of_the_mass_each():
    found = search(far_pair, 10)
    record = found.record
    assert [mode.least_mass for mode in record.modes] == pytest.approx([0.5, 0.5], abs=0.03)
    assert sum(mode.hits for mode in record.modes) == record.num_searches
    assert record.unseen < 0.02
    assert record.power[0].share >= 0.95
    assert record.efficiency > 0.5
    draws = found.components.draw(500, torch.Generator().manual_seed(0))
    assert 0.4 < float((draws.mean(1) > 3).double().mean()) < 0.6


def test_one_mode_is_searched_cheaply():
    record = search(lambda x: -0.5 * x.square().sum(-1), 5).record
    assert (len(record.modes), record.num_searches) == (1, 56)
    assert record.unseen < 0.02
    assert record.num_evaluations < 60_000


def test_a_shell_is_one_mode():
    record = search(lambda x: -0.5 * ((x.norm(dim=-1) - 2) / 0.3).square(), 3).record
    assert len(record.modes) == 1


def needle(x):
    """Half of the mass in a needle that no climb from far away sees."""
    wide = -0.5 * x.square().sum(-1)
    return torch.logaddexp(wide, -0.5 * ((x - 5) / 0.01).square().sum(-1) - 8 * math.log(0.01))


def test_hints_and_data_find_what_climbs_do_not():
    assert len(search(needle, 8).record.modes) == 1
    for options in ({"starts": torch.full((1, 8), 5.001)}, {"data": torch.full((30, 8), 5.001)}):
        modes = search(needle, 8, **options).record.modes
        assert [mode.least_mass for mode in modes] == pytest.approx([0.5, 0.5], abs=0.05)
        assert {mode.given > 0 for mode in modes} == {True, False}


def test_very_many_modes_leave_much_unseen():
    def log_density(x):
        return -2 * (x.square() - 4).square().sum(-1) + 0.1 * (x[:, 1:] * x[:, :-1]).sum(-1)

    record = search(log_density, 8).record
    assert record.num_searches >= 56
    assert record.unseen > 0.1
    assert not record.power


def test_searches_repeat_with_their_seed():
    first, second = (search(far_pair, 10, seed=3).record for _ in range(2))
    assert [mode.hits for mode in first.modes] == [mode.hits for mode in second.modes]
