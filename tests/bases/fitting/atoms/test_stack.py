"""Stacks of spike-and-slab mixtures: what they gain beside another density, limits, and refits."""

import dataclasses
import math

import pytest
import torch

from drl_density.bases import NoisedGaussianMixture
from drl_density.bases.atoms import AtomCells
from drl_density.bases.fitting.atoms import AtomKind, AtomSizes, fit_atom_stack, refit_atoms
from drl_density.testing import seeded_generator

SMALL = AtomSizes((2, 5), (0.1, 1.0), num_bags=8, least_bags=8, most_components=60)


@pytest.fixture(scope="module")
def cells():
    edges = torch.tensor([[-0.05, 0.05]], dtype=torch.float64).repeat(6, 1)
    return AtomCells(torch.arange(6), edges, 6)


@pytest.fixture(scope="module")
def rows():
    """Half of the rows lie in all six cells, and half are normal."""
    generator = seeded_generator(0)
    normal = torch.randn(120, 6, generator=generator)
    return torch.where(torch.arange(120)[:, None] % 2 == 0, 0.1 * torch.rand(120, 6, generator=generator) - 0.05, normal)


def normal_densities(rows):
    return NoisedGaussianMixture.standard(6).log_prob(rows.double())


@pytest.fixture(scope="module")
def stack(rows, cells):
    return fit_atom_stack(rows[None], cells, normal_densities(rows), settings=SMALL, generator=seeded_generator(1))


def test_rows_that_share_many_atoms_have_the_density_of_the_truth(stack):
    generator = seeded_generator(2)
    fresh, other = 0.1 * torch.rand(200, 6, generator=generator) - 0.05, torch.randn(200, 6, generator=generator)
    in_cells = stack.base.log_prob(fresh.double()).mean()
    assert float(in_cells) == pytest.approx(math.log(0.5) + 6 * math.log(10), abs=0.3)
    truth = (normal_densities(other) + math.log(0.5)).mean()
    assert float(stack.base.log_prob(other.double()).mean()) > float(truth) - 2.0
    known = stack.log_densities[~stack.log_densities.isnan()]
    assert len(known) > 60
    # Half of the rows gain 13 nats over the normal density, less log 2.
    assert float(known.mean()) > -9.0 / 2 + 13.1 / 2 - 2.0


def test_weights_of_kinds_are_shares_of_the_stack(stack):
    assert sum(each.weight for each in stack.kinds) == pytest.approx(1, abs=1e-12)
    assert 0.3 < stack.share <= 1
    assert stack.base.num_components <= 1.5 * SMALL.most_components


def test_equal_seeds_give_equal_stacks(rows, cells, stack):
    again = fit_atom_stack(rows[None], cells, normal_densities(rows), settings=SMALL, generator=seeded_generator(1))
    assert torch.equal(again.base.log_prob(rows), stack.base.log_prob(rows))


def test_rows_that_gain_nothing_have_no_stack(cells):
    """Beside the true density of normal rows, the mixtures have next to no weight."""
    normal = torch.randn(400, 6, generator=seeded_generator(3))
    sharp = normal_densities(normal) + 3.0
    assert fit_atom_stack(normal[None], cells, sharp, settings=SMALL, generator=seeded_generator(4)) is None


def test_limits_leave_the_larger_sizes_out(rows, cells, stack):
    density = normal_densities(rows)
    assert 5 in {each.num_components for each in stack.kinds}
    for changes, seconds in (({"most_work": 1.3e7}, math.inf), ({}, 1e-6)):
        settings = dataclasses.replace(SMALL, **changes)
        small = fit_atom_stack(
            rows[None], cells, density, settings=settings, max_seconds=seconds, generator=seeded_generator(1)
        )
        assert {each.num_components for each in small.kinds} == {2}
    settings = dataclasses.replace(SMALL, num_components=(2, 61))  # more than half of the rows
    found = fit_atom_stack(rows[None], cells, density, settings=settings, generator=seeded_generator(1))
    assert {each.num_components for each in found.kinds} == {2}


def test_refits_have_the_kinds_that_fit_the_rows(rows, cells):
    kinds = [AtomKind(2, 1.0, 0.5, 0.0), AtomKind(30, 1.0, 0.5, 0.0)]
    few = refit_atoms(rows[None, :40], cells, kinds, most_components=20, generator=seeded_generator(5))
    assert few.num_components == 20  # ten mixtures of two
    again = refit_atoms(rows[None, :40], cells, kinds, most_components=20, generator=seeded_generator(5))
    assert torch.equal(few.log_prob(rows), again.log_prob(rows))
    fewest = refit_atoms(rows[None, :6], cells, kinds[1:], most_components=6, generator=seeded_generator(5))
    assert fewest.num_components == 6  # two mixtures of three
