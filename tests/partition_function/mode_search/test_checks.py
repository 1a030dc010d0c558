"""Every doubt of a search rings alone, with its numbers."""

import dataclasses

import pytest
import torch

from drl_density.partition_function.mode_search.checks import (
    a_mode_is_never_visited,
    a_mode_is_out_of_reach,
    describe,
    many_modes_are_unseen,
    power_is_small,
    reach,
    some_modes_are_unseen,
)
from drl_density.partition_function.mode_search.record import Power
from tests.partition_function.mode_search.test_record import mode, record

CHECKS = (many_modes_are_unseen, a_mode_is_never_visited, some_modes_are_unseen, power_is_small)
SEEN = dataclasses.replace(
    record(mode(hits=60), mode(9.0, hits=50)), power=(Power(0.2, 1.0, 64.0, 39, 40),), visits=(0.5, 0.5)
)
RARE = {"modes": (mode(hits=97), mode(9.0, hits=1, mass=0.01), mode(-9.0, hits=1, mass=0.01))}
MANY = {"modes": tuple(mode(9.0 * index, hits=1) for index in range(9))}


@pytest.mark.parametrize(
    ("changes", "rings"),
    [
        ({}, []),
        (RARE, [some_modes_are_unseen]),
        (MANY, [many_modes_are_unseen, some_modes_are_unseen]),
        ({"visits": (0.99, 0.01)}, [a_mode_is_never_visited]),
        ({"visits": ()}, []),
        ({"power": (Power(0.2, 1.0, 64.0, 37, 40),)}, [power_is_small]),
        ({"power": ()}, [power_is_small]),
        ({"has_gradient": False, "modes": (), "visits": ()}, [power_is_small]),
    ],
)
def test_each_doubt_rings_alone(changes, rings):
    search = dataclasses.replace(SEEN, **changes)
    if changes is RARE or changes is MANY:
        search = dataclasses.replace(search, visits=())
    assert [check for check in CHECKS if check(search)] == rings


def test_a_mode_of_uncertain_mass_need_not_be_visited():
    search = dataclasses.replace(SEEN, modes=(mode(), mode(9.0, least_mass=0.01)), visits=(1.0, 0.0))
    assert a_mode_is_never_visited(search) is None


def test_nothing_rings_without_a_search():
    assert not any(check(None) for check in CHECKS)
    assert reach(None) == ""


def test_the_sentence_names_mass_radius_and_the_narrowest_width_that_was_found():
    assert reach(SEEN) == (
        "; 2 modes found; modes at least 1 wide, of at least 20% of the mass and within radius 64, would have been found "
        "with 95% (39 of 40 planted)"
    )
    first = SEEN.power[0]
    light, half, quarter = Power(0.05, 1.0, 64.0, 10, 20), Power(0.2, 0.5, 64.0, 40, 40), Power(0.2, 0.25, 64.0, 3, 20)
    assert reach(dataclasses.replace(SEEN, power=(first, light, half, quarter))) == (
        "; 2 modes found; modes at least 0.5 wide, of at least 20% of the mass and within radius 64, would have been found "
        "with 95% (40 of 40 planted), and of those 0.25 wide 3 of 20"
    )


def test_the_sentence_says_where_planted_modes_were_missed():
    missed = dataclasses.replace(SEEN, power=(dataclasses.replace(SEEN.power[0], num_found=4, num_planted=20),))
    assert reach(missed) == (
        "; 2 modes found; of 20 planted modes 1 wide, with 20% of the mass and within radius 64, the search found 4 only"
    )


def test_the_sentence_on_one_mode_compares_others_with_it():
    copies = [dataclasses.replace(SEEN.power[0], width=width, is_copy=True) for width in (1.0, 0.5, 0.25)]
    one = dataclasses.replace(SEEN, modes=SEEN.modes[:1])
    assert "; one mode found; others like it, of at least 20%" in reach(dataclasses.replace(one, power=tuple(copies[:1])))
    copies[2] = dataclasses.replace(copies[2], num_found=1, num_planted=20)
    sentence = reach(dataclasses.replace(one, power=tuple(copies)))
    assert "others like it, down to 0.5 as wide, of at least 20%" in sentence
    assert sentence.endswith("planted), and of those 0.25 as wide 1 of 20")


def test_what_was_searched_is_described_whatever_the_verdict():
    assert describe(None) == ""
    assert describe(SEEN).startswith(
        "search for modes: 100 random starts out to radius 64 and 4 pilot runs found 2 modes: 50.0% of the mass (60 starts, "
        "4 pilots), 50.0% of the mass (50 starts, 4 pilots); unseen share 0.009; 2 modes found"
    )
    many = describe(dataclasses.replace(SEEN, power=(), **MANY))
    assert many.count("of the mass (") == 5
    assert many.endswith(", 4 more; unseen share 1")
    blind = dataclasses.replace(SEEN, has_gradient=False, modes=(), power=())
    assert describe(blind) == "search for modes: 4 pilot runs and no climbs, as the target has no gradient"


def test_a_mode_with_much_mass_by_laplace_has_to_have_draws_near():
    """The shapes are unit Gaussians, and all draws lie at 30 until some lie at the modes."""
    search = record(mode(), mode(9.0))
    draws = torch.full((1000, 2), 30.0)
    assert "0.0% of the draws come near" in a_mode_is_out_of_reach(search, draws, search.modes[0].shape.log_mass)
    assert a_mode_is_out_of_reach(search, draws, search.modes[0].shape.log_mass + 5.0) is None  # less than a tenth of Z
    draws[:500], draws[500:700] = 0.0, 9.0
    assert a_mode_is_out_of_reach(search, draws, search.modes[0].shape.log_mass) is None
    assert a_mode_is_out_of_reach(None, draws, 0.0) is None
