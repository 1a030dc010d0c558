"""Points inside the cells of given labels."""

import torch

from drl_density.datasets import Column
from drl_density.density.conditioning.cells import NUM_NODES, cell_nodes, cell_positions, given_in_cells
from drl_density.testing import assert_z, seeded_generator

COLUMNS = (Column("kind", "categorical", 0.8, categories=("a", "b")), Column("x"), Column("n", "integer", 1.0))


def test_only_given_labels_have_cells():
    missing = torch.tensor([[False, False, False], [True, False, False]])
    assert given_in_cells(COLUMNS, missing).tolist() == [[True, False, False], [False, False, False]]


def test_random_points_fill_the_cell_and_leave_the_rest():
    rows = torch.tensor([[1.0, 0.3, 4.0]], dtype=torch.float64)
    places, in_cell = cell_positions(
        COLUMNS, rows, torch.zeros(1, 3, dtype=torch.bool), 4000, generator=seeded_generator(0)
    )
    assert in_cell.tolist() == [[True, False, False]]
    assert torch.equal(places[0, :, 1:], rows[:, 1:].expand(4000, 2))
    offsets = places[0, :, 0] - 1.0
    assert float(offsets.abs().max()) <= 0.4
    # Uniform on [-0.4, 0.4]: mean 0, variance 0.8^2 / 12.
    assert_z(offsets, 0.0)
    assert_z(offsets.square(), 0.8**2 / 12)


def test_each_stratum_of_a_cell_has_one_point_of_a_group():
    columns = (*COLUMNS[:2], Column("stars", "integer", 1.0, values=(1.0, 2.0)))
    rows, missing = torch.tensor([[1.0, 0.3, 2.0]]).double().repeat(200, 1), torch.zeros(200, 3, dtype=torch.bool)
    generator = seeded_generator(3)
    places, _ = cell_positions(columns, rows, missing, 5, num_strata=4, generator=generator)
    offsets = places.reshape(200, 5, 4, 3) - rows[:, None, None]
    for index, width in ((0, 0.8), (2, 1.0)):
        strata = ((offsets[..., index] / width + 0.5) * 4).floor().long()
        assert bool((strata.sort(2).values == torch.arange(4)).all())
        assert_z(offsets[..., index].flatten().square(), width**2 / 12)
    # Strata of two columns are matched at random.
    assert_z((offsets[..., 0] * offsets[..., 2]).mean(2).flatten(), 0.0)
    seeded = seeded_generator(4)
    parts = [
        cell_positions(columns, part, missing[: len(part)], 5, num_strata=4, generator=seeded)[0]
        for part in rows.split(60)
    ]
    whole, _ = cell_positions(columns, rows, missing, 5, num_strata=4, generator=seeded_generator(4))
    assert torch.equal(torch.cat(parts), whole)


def test_nodes_are_even_and_always_the_same():
    row, missing = torch.tensor([0.0, 0.3, 4.0], dtype=torch.float64), torch.tensor([False, True, False])
    nodes, in_cell = cell_nodes(COLUMNS, row, missing)
    assert in_cell.tolist() == [True, False, False]
    assert torch.equal(nodes, cell_nodes(COLUMNS, row, missing)[0])
    # A scrambled Sobol sequence of 2^k points has one point in each of 2^k equal parts.
    parts = ((nodes[:, 0] + 0.4) / 0.8 * NUM_NODES).floor().long()
    assert sorted(parts.tolist()) == list(range(NUM_NODES))
    plain, _ = cell_nodes(COLUMNS[1:], row[1:], missing[1:])
    assert plain.shape == (1, 2)


def test_numbers_of_a_closed_support_have_cells_around_their_nearest_value():
    columns = (Column("stars", "integer", 1.0, values=(1.0, 2.0, 5.0)), Column("x"))
    row, missing = torch.tensor([4.8, 0.3], dtype=torch.float64), torch.zeros(2, dtype=torch.bool)
    places, in_cell = cell_positions(columns, row[None], missing[None], 500, generator=seeded_generator(1))
    nodes, _ = cell_nodes(columns, row, missing)
    assert in_cell.tolist() == [[True, False]]
    for points in (places[0], nodes):
        assert bool(((points[:, 0] - 5.0).abs() < 0.5).all())
        assert 4.9 < float(points[:, 0].mean()) < 5.1
        assert bool((points[:, 1] == 0.3).all())
