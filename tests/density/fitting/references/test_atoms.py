"""Cells of atoms: which values count, where their ends lie in model space, and columns that cells cover."""

import dataclasses

import numpy as np
import torch

import drl_density as drl
from drl_density.datasets import Column
from drl_density.density.fitting.references import atom_cells, atoms as module
from drl_density.density.fitting.table import prepare_table
from drl_density.testing import seeded_generator
from drl_density.transforms import Affine


def rows_with(*counts):
    """A column of distinct values from 10 on, with the values 0, 1, 2, ... as often as stated."""
    parts = [torch.full((count,), float(value)) for value, count in enumerate(counts)]
    return torch.cat([*parts, 10 + torch.arange(50) * 1.0]).double()[:, None]


def test_values_of_at_least_five_rows_have_cells_with_their_width():
    x = rows_with(5, 4, 30)
    cells = atom_cells(x, [Column("x", "rounded", 0.5)], Affine(0.0, 2.0))
    assert cells.columns.tolist() == [0, 0]
    torch.testing.assert_close(cells.edges[:, 0], torch.tensor([-0.5, 3.5], dtype=torch.float64), rtol=0, atol=2e-6)
    torch.testing.assert_close(cells.edges.diff(dim=1), torch.full((2, 8), 0.125).double(), rtol=0, atol=4e-6)
    assert atom_cells(x, [Column("x")], Affine(0.0, 2.0)) is None
    assert atom_cells(rows_with(4, 4), [Column("x", "rounded", 0.5)], Affine(0.0, 2.0)) is None


def test_rows_rounded_to_float32_stay_in_their_cells():
    generator, width = seeded_generator(0), 1e-4
    x = torch.cat([torch.full((50, 1), 0.37), torch.rand(50, 1, generator=generator)]).double()
    cells = atom_cells(x, [Column("x", "rounded", width)], Affine(0.3, 3.0))
    noise = width * (torch.rand(20_000, 1, generator=generator, dtype=torch.float64) - 0.5)
    noise[:2, 0] = torch.tensor([-0.5, 0.4999999]) * width
    assert bool(cells.hits(((0.37 + noise) * 3.0 + 0.3).float().double()).all())
    # A cell of a few steps of float32 is left out.
    assert atom_cells(x, [Column("x", "rounded", 1e-6)], Affine(0.3, 3.0)) is None


def test_of_values_nearer_than_the_width_the_more_frequent_one_counts():
    x = torch.cat([torch.full((20,), 0.0), torch.full((10,), 0.3), torch.full((9,), 0.6)]).double()[:, None]
    cells = atom_cells(x, [Column("x", "rounded", 0.5)], Affine(0.0, 1.0))
    assert cells.edges[:, [0, -1]].mean(1).round(decimals=3).tolist() == [0.0, 0.6]


def test_neighbouring_cells_touch_and_the_most_frequent_are_kept(monkeypatch):
    x = rows_with(9, 8, 7, 6)
    column = Column("x", "integer", 1.0)
    cells = atom_cells(x, [column], Affine(0.1, 0.37))
    assert torch.equal(cells.lower[1:], cells.upper[:-1])
    assert len(cells.gaps[0]) == 2
    monkeypatch.setattr(module, "MOST_ATOMS", 2)
    few = atom_cells(x, [column], Affine(0.1, 0.37))
    torch.testing.assert_close(few.edges[0], cells.edges[0])
    assert len(few.columns) == 2


def test_cells_of_a_closed_support_cover_the_line():
    generator = np.random.default_rng(0)
    x = np.stack([generator.integers(0, 3, 300), generator.standard_normal(300)], 1)
    table = prepare_table(drl.load_dataset(x, seed=0))
    assert table.dataset.columns[0].is_closed
    cells = atom_cells(table.dataset.train, table.dataset.columns, table.transform)
    assert cells.has_gap.tolist() == [False, True]
    u = table.to_model(table.dataset.test, generator=seeded_generator(0))
    assert bool((cells.hits(u.double()).sum(1) == 1).all())


def test_rows_fall_into_the_bins_of_a_cell_evenly():
    """Bins are of equal width in data units, as the rounding is even there."""
    x = torch.cat([torch.full((400, 1), 2.0), torch.randn(400, 1, generator=seeded_generator(0))]).double()
    data = drl.load_dataset(x, columns={"x0": {"width": 0.01}}, seed=0)
    table = prepare_table(dataclasses.replace(data, train=x))
    cells = atom_cells(x, data.columns, table.transform)
    (place,) = ((cells.edges[:, 4] - table.transform(torch.tensor([[2.0]]).double())).abs() < 1e-3).nonzero()[:, 0].tolist()
    u = table.transform(table.rows(x[:400].repeat(20, 1), generator=seeded_generator(7)))[:, 0]
    counts = torch.bucketize(u, cells.edges[place, 1:-1]).bincount(minlength=8)
    # 8,000 rows in eight bins: a chi-square of 7 degrees exceeds 30 with probability 1e-4.
    assert float(((counts - 1000.0).square() / 1000).sum()) < 30
