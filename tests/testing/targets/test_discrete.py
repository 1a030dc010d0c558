"""Sums over discrete variables by quadrature of the continuous density, and by other ways to sum."""

import math

import pytest
import torch

from drl_density.testing.targets import discrete
from drl_density.testing.targets.discrete import (
    change_point,
    field_chain,
    hidden_chain,
    ising,
    label_switching,
    lattice,
    log_spin_sum,
    spins,
)
from tests.testing.targets.routes import assert_draws, integral


@pytest.mark.parametrize("seed", [None, 3])
def test_rows_of_spins_sum_to_all_spins(seed):
    couplings = lattice(3, 0.6, seed=seed)
    states = spins(9)
    everything = (0.5 * ((states @ couplings) * states).sum(-1)).logsumexp(0)
    assert log_spin_sum(couplings, 3) == pytest.approx(float(everything), abs=1e-10)
    assert int((couplings != 0).sum()) == 24  # twelve pairs of neighbours, both ways
    assert bool((couplings[couplings != 0].abs() == 0.6).all())


def test_signs_of_couplings_are_of_both_kinds():
    values = lattice(4, 1.0, seed=6).unique()
    assert values.tolist() == [-1, 0, 1]


def test_a_relaxed_lattice_by_quadrature_and_draws():
    """Two by two spins are four coordinates, each on sixteen points."""
    definition = ising(2, 0.2)
    assert definition.log_z == pytest.approx(integral(definition, 5.0, 1), abs=1e-3)
    assert_draws(definition, 0.0, 0.25, num_samples=8000)


def test_a_chain_of_two_sites_by_quadrature():
    definition = field_chain(2, 1.0, 0.5)
    assert definition.log_z == pytest.approx(integral(definition, 4.0, 20), abs=1e-9)
    three = field_chain(3, 2.0, 1.0)
    assert three.log_z == pytest.approx(integral(three, 3.5, 4), abs=1e-6)


def test_label_switching_by_quadrature_and_its_symmetry():
    definition = label_switching(2, 12)
    assert definition.log_z == pytest.approx(integral(definition, 27.0, 40), abs=1e-9)
    x = torch.tensor([1.0, -2.0, 3.0]).double()
    three = label_switching(3, 9)
    assert float(three.log_density(x)) == pytest.approx(float(three.log_density(x.flip(0))))
    assert three.log_z == pytest.approx(integral(three, 10.0, 3), abs=1e-5)


def test_hidden_chains_by_quadrature():
    definition = hidden_chain(6)
    assert definition.log_z == pytest.approx(integral(definition, 20.0, 24), abs=1e-6)


def test_change_points_by_quadrature():
    definition = change_point(16)
    assert definition.log_z == pytest.approx(integral(definition, 15.0, 40, center=-9.0), abs=1e-9)


def test_densities_keep_any_leading_shape():
    for name, build in discrete.TARGETS.items():
        definition = build()
        x = torch.ones(2, 3, *definition.shape).double()
        assert definition.log_density(x).shape == (2, 3), name
        assert math.isfinite(definition.log_z), name
