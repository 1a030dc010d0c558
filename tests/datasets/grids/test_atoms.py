"""Atoms: which values of a column are taken for them, and that grids return to them exactly."""

import numpy as np
import pytest
import torch

from drl_density.datasets.columns import notice_columns
from drl_density.datasets.grids.atoms import atom_width, find_atoms
from drl_density.datasets.grids.search import find_grid
from drl_density.errors import DataWarning
from drl_density.testing import seeded_generator
from drl_density.transforms import Dequantization

OTHERS = np.random.default_rng(0).uniform(-0.99, 0.99, 150)


def with_atoms(atoms):
    """Values between -1 and 1 that never repeat, with some values many times."""
    return np.concatenate([OTHERS, *(np.full(count, value) for value, count in atoms.items())])


@pytest.mark.parametrize(
    ("atoms", "found"),
    [
        ({1.0: 40, 0.0: 16, -1.0: 6}, [-1.0, 0.0, 1.0]),
        ({1.0: 40, 0.25: 4}, [1.0]),  # four rows are too few
        ({0.3: 5, 0.4: 2}, []),  # five are not three times two
        ({0.3: 6, 0.4: 2}, [0.3]),
        ({0.3: 5}, [0.3]),
        ({}, []),
        ({value / 10: 8 for value in range(6)}, []),  # six equally frequent values are none
    ],
)
def test_atoms_occur_far_more_often_than_other_values(atoms, found):
    assert find_atoms(with_atoms(atoms)).tolist() == found


def test_atoms_are_at_least_two_percent_of_the_rows():
    rows = np.random.default_rng(1).standard_normal(1000)
    assert find_atoms(np.concatenate([rows, np.zeros(20)])).tolist() == []
    assert find_atoms(np.concatenate([rows, np.zeros(21)])).tolist() == [0.0]


def test_a_column_with_atoms_is_rounded_to_a_grid_through_all_of_them():
    values = with_atoms({1.0: 40, 0.0: 16, -1.0: 6})
    grid = find_grid(values)
    assert grid == (0.01, 0.0)  # 1 % of the others' spread, which is 1 between their quartiles
    with pytest.warns(DataWarning, match="values repeat .* rounded to 0.01"):
        (found,) = notice_columns(values[:, None], ["x"])
    assert (found.kind, found.is_closed) == ("rounded", False)
    widths = torch.tensor([found.width], dtype=torch.float64)
    for atom in (-1.0, 0.0, 1.0):
        drawn = Dequantization(widths)(widths.new_full((200, 1), atom), generator=seeded_generator(0))
        assert (found.on_support(drawn) == atom).all()
        assert float((drawn - atom).abs().max()) > 0.004


@pytest.mark.parametrize("atom", [37.0, 0.123456789, 1 / 3])
def test_grids_return_to_a_single_atom_exactly(atom):
    values = np.concatenate([atom + 0.37 * np.random.default_rng(2).standard_normal(100), np.full(30, atom)])
    with pytest.warns(DataWarning, match="rounded to"):
        (found,) = notice_columns(values[:, None], ["x"])
    assert found.on_support(np.array([atom + 0.4 * found.width, atom])).tolist() == [atom, atom]


@pytest.mark.parametrize(("scale", "width"), [(3.0, 0.02), (7.0, 0.05), (0.12, 0.001)])
def test_the_grid_through_several_atoms_has_a_width_of_1_2_or_5(scale, width):
    values = np.concatenate([scale * OTHERS, np.repeat([-1.0, 0.0, 1.0], 20)])
    assert find_grid(values) == (width, 0.0)


def test_the_width_beside_an_atom_follows_the_range_where_half_of_the_others_are_equal():
    assert atom_width(0.5, np.array([1.0, 1.0, 1.0, 1.0, 3.0])) == 0.02
    assert atom_width(0.5, np.array([])) == 0.0


def test_atoms_on_no_common_grid_leave_that_of_the_most_frequent_one():
    values = with_atoms({np.sqrt(0.5): 30, 1 / np.pi: 20})
    grid = find_grid(values)
    assert grid.offset == np.sqrt(0.5)
    assert 0 < grid.width <= 0.02
