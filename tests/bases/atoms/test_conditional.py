"""Marginals and conditionals of spike-and-slab mixtures, against sums over grids of points."""

import numpy as np
import torch

from drl_density.bases import BlendedBase, NoisedGaussianMixture
from drl_density.testing import assert_z, seeded_generator
from tests.bases.atoms.small import small_atoms

AXIS = torch.arange(-450, 451, dtype=torch.float64) * 0.02
"""Points whose halfway places include all ends of the cells: a sum over them errs to second order, 1e-4 at most."""


def test_the_marginal_is_the_integral_over_what_is_missing():
    base = small_atoms(2)
    for given in (0.1, 1.3, -2.0):
        whole = torch.stack([torch.full_like(AXIS, given), AXIS], 1)
        row, is_missing = torch.tensor([[given, torch.nan]], dtype=torch.float64), torch.tensor([[False, True]])
        found = base.conditional().observed_log_density(row, is_missing)
        torch.testing.assert_close(found.exp()[0], base.log_prob(whole).exp().sum() * 0.02, rtol=5e-4, atol=0)


def test_draws_have_the_conditional_density():
    base = small_atoms(2)
    row, is_missing = torch.tensor([[0.1, 9.0], [5.0, 0.5]]), torch.tensor([[False, True], [True, False]])
    drawn = base.conditional().sample(row, is_missing, 20_000, generator=seeded_generator(0))
    assert bool((drawn[0, :, 0] == row[0, 0].double()).all() & (drawn[1, :, 1] == row[1, 1].double()).all())
    for index, column in ((0, 1), (1, 0)):
        whole = row[index].double().repeat(len(AXIS), 1)
        whole[:, column] = AXIS
        weights = base.log_prob(whole).softmax(0)
        is_in_cell = ((drawn[index, :, column] >= 0.45) & (drawn[index, :, column] < 0.63)).double()
        assert_z(drawn[index, :, column], weights @ AXIS)
        assert_z((2 * drawn[index, :, column]).cos(), weights @ (2 * AXIS).cos())
        assert_z(is_in_cell, weights @ ((AXIS >= 0.45) & (AXIS < 0.63)).double())


def test_draws_of_several_points_come_with_the_density_of_what_is_observed():
    law, generator = small_atoms(2).conditional(), seeded_generator(1)
    points = torch.randn(4, 3, 2, generator=generator, dtype=torch.float64)
    is_missing = torch.tensor([[True, False], [False, True], [False, False], [True, True]])
    drawn, heights = law.draw(
        points, is_missing, 5, lambda rows, shape: torch.randn(len(rows), *shape, generator=generator, dtype=torch.float64)
    )
    assert drawn.shape == (4, 3, 5, 2)
    for place in range(3):
        torch.testing.assert_close(
            heights[:, place], law.observed_log_density(points[:, place], is_missing), rtol=0, atol=1e-12
        )
    assert bool((drawn[2] == points[2, :, None]).all())
    torch.testing.assert_close(heights[3], torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_row_keeps_its_draws_whatever_the_other_rows():
    """Random numbers by row: the first row alone gets what it gets among others, from a blend too."""
    mixture = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.5, 1.0]]]))
    base = BlendedBase([mixture, small_atoms(2)], torch.tensor([0.4, 0.6]))

    def numbers(rows, shape):
        return torch.stack([torch.from_numpy(np.random.default_rng(int(row)).standard_normal(shape)) for row in rows])

    points = torch.randn(3, 1, 2, generator=seeded_generator(9), dtype=torch.float64)
    is_missing = torch.tensor([[True, False], [False, True], [True, True]])
    for law in (small_atoms(2).conditional(), base.conditional()):
        among, _ = law.draw(points, is_missing, 50, numbers)
        alone, _ = law.draw(points[:1], is_missing[:1], 50, numbers)
        assert torch.equal(among[:1], alone)
