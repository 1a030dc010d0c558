"""Every doubt of a search rings alone, with its numbers."""

import dataclasses

import pytest

from drl_density.partition_function.mode_search.checks import (
    a_mode_is_never_visited,
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
RARE = {"modes": (mode(hits=97), mode(9.0, hits=1), mode(-9.0, hits=1))}
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


def test_the_sentence_names_mass_width_and_radius():
    assert reach(SEEN) == (
        "; 2 modes found; modes at least 1 wide, of at least 20% of the mass and within radius 64, would have been found "
        "with 95% (39 of 40 planted)"
    )
    copies = dataclasses.replace(SEEN.power[0], is_copy=True)
    assert "; one mode found; others like it, of at least 20%" in reach(
        dataclasses.replace(SEEN, modes=SEEN.modes[:1], power=(copies,))
    )
