"""The whole search: modes of known mass, shells without point modes, hints, data, and many modes."""

import math

import pytest
import torch

from drl_density.partition_function.mode_search import grouping, planting, search as search_module
from drl_density.partition_function.mode_search.search import MOST_STARTS, search_modes
from drl_density.partition_function.target_bases.mixture import MixtureBase


def normal(dim):
    return MixtureBase(torch.ones(1), torch.zeros(1, dim), torch.eye(dim)[None], torch.zeros(1).double())


def search(log_density, dim, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return search_modes(log_density, normal(dim), generator=generator, **options)


def far_pair(x):
    center = 20 / math.sqrt(10)
    return torch.logaddexp(-0.5 * x.square().sum(-1), -0.5 * (x - center).square().sum(-1))


def gaussians(means, sds, weights=None):
    means, sds = torch.as_tensor(means).double(), torch.tensor(sds).double()
    shares = torch.ones(len(sds)).double() if weights is None else torch.tensor(weights).double()
    heights = (shares / shares.sum()).log() - means.shape[1] * sds.log()

    def log_density(x):
        distances = ((x[:, None] - means) / sds[:, None]).square().sum(-1)
        return (heights - 0.5 * distances).logsumexp(1)

    return log_density


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


def test_one_mode_is_searched_by_thousands_of_starts_and_no_pilot():
    record = search(lambda x: -0.5 * x.square().sum(-1), 5).record
    assert (len(record.modes), record.num_searches, record.num_pilots) == (1, MOST_STARTS, 0)
    assert record.unseen < 0.02
    assert record.modes[0].hits == MOST_STARTS


def test_pilots_run_where_components_at_the_optima_do_not_account_for_the_target():
    """The optimum is a spike a twentieth as wide as the rest, which has half of the mass."""
    found = search(gaussians(torch.zeros(2, 8), [0.05, 1.0]), 8)
    assert found.record.num_pilots == 4
    assert found.record.efficiency > 0.5
    draws = found.components.draw(400, torch.Generator().manual_seed(0))
    assert 0.3 < float((draws.norm(dim=1) > 1).double().mean()) < 0.8


def test_a_narrower_mode_with_a_fifth_of_the_mass_is_found():
    """Its basin holds one in a hundred of the starts at best."""
    record = search(gaussians([[0.0] * 6, [10 / math.sqrt(6)] * 6], [1.0, 0.5], [0.8, 0.2]), 6).record
    assert [mode.least_mass for mode in record.modes] == pytest.approx([0.8, 0.2], abs=0.03)
    assert record.unseen < 0.02
    assert record.power[0].share >= 0.95


def test_spikes_at_the_middle_of_wide_modes_are_found():
    means = [[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [30.0, 30.0, 0.0]]
    record = search(gaussians(means, [0.01, 1.0, 10.0]), 3).record
    assert [mode.least_mass for mode in record.modes] == pytest.approx([1 / 3] * 3, abs=0.03)
    assert record.power[0].share < 0.5  # others as narrow would be missed


def test_needles_far_apart_are_never_called_covered():
    """Five modes of one mass in ten dimensions, 2 to 0.05 wide: the narrow ones cannot be found."""
    means = 6 * torch.randn(5, 10, generator=torch.Generator().manual_seed(3)).double()
    record = search(gaussians(means, [2.0, 1.0, 0.5, 0.1, 0.05]), 10).record
    assert record.unseen > 0.02 or record.power[0].share < 0.95


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


def test_a_sweep_finds_needles_that_no_climb_from_far_away_sees():
    """Half of the mass in two modes 0.1 and 0.2 wide, 3 widths from the wide one: without the sweep all seems well."""
    means = [[0.0] * 6, [3.0] + [0.0] * 5, [-3.0] + [0.0] * 5]
    target = gaussians(means, [1.0, 0.1, 0.2], [0.5, 0.3, 0.2])
    blind = search(target, 6, num_swept=0).record
    assert len(blind.modes) == 1
    assert blind.power[0].share >= 0.95
    record = search(target, 6, num_swept=2**16, seed=1).record
    assert [mode.least_mass for mode in record.modes] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    assert [mode.given > 0 for mode in record.modes[1:]] == [True, True]
    assert record.power[0].share < 0.5  # others as narrow, further away, would be missed


def wells(x):
    return -2 * (x.square() - 4).square().sum(-1) + 0.1 * (x[:, 1:] * x[:, :-1]).sum(-1)


def test_a_search_without_hope_ends_early():
    """4,096 wells: nearly every climb ends in one of its own."""
    record = search(wells, 12).record
    assert record.unseen > 0.1
    assert not record.power
    assert record.num_searches < 1000


def test_many_modes_in_few_dimensions_are_searched_until_all_are_seen():
    record = search(wells, 4).record
    assert len(record.modes) == 16
    assert record.unseen < 0.02
    assert record.power[0].share >= 0.95


def test_a_density_that_grows_without_bound_in_a_neck_is_searched_for_copies_of_its_bulk(monkeypatch):
    """Two effects around their mean, whose spread has no lower bound: climbs end only where float64 does."""

    def effects(x):
        mean, log_spread, rest = x[:, 0], x[:, 1], x[:, 2:]
        within = -0.5 * ((rest - mean[:, None]) * torch.exp(-log_spread)[:, None]).square().sum(1) - 2 * log_spread
        prior = log_spread - 0.5 * torch.exp(2 * log_spread) - 0.5 * mean.square()
        return within + prior - 0.5 * (rest - torch.tensor([1.0, -1.0])).square().sum(1)

    for name, number in {"FIRST_STARTS": 12, "NEXT_STARTS": 16, "MOST_STARTS": 28, "LARGEST_UNSEEN": 0.2}.items():
        monkeypatch.setattr(search_module, name, number)
    monkeypatch.setattr(grouping, "POLISH_STEPS", 20)
    monkeypatch.setattr(planting, "FIRST_PLANTS", 4)
    record = search(effects, 4).record
    assert all(float(mode.shape.widths.max()) < record.radius for mode in record.modes)
    assert record.power[0].is_copy
    assert 0.3 < record.power[0].width < 3


def test_a_target_without_gradient_is_searched_by_pilots_alone():
    def stepped(x):
        with torch.no_grad():
            return -0.5 * x.round().square().sum(-1)

    from drl_density.mcmc import RandomWalk

    found = search(stepped, 2, has_gradient=False, kernel=RandomWalk())
    record = found.record
    assert not record.has_gradient
    assert (record.modes, record.power, record.num_searches, record.num_pilots) == ((), (), 0, 4)
    assert record.efficiency > 0.2
    draws = found.components.draw(1000, torch.Generator().manual_seed(0))
    assert float(draws.std()) == pytest.approx(1.04, abs=0.3)


def test_searches_repeat_with_their_seed():
    first, second = (search(gaussians([[0.0], [5.0]], [1.0, 0.5]), 1, seed=3).record for _ in range(2))
    assert [mode.hits for mode in first.modes] == [mode.hits for mode in second.modes]
    assert [power.num_found for power in first.power] == [power.num_found for power in second.power]
