"""Refusals of sandwich settings."""

import pytest

import drl_density as drl
from drl_density.mcmc import MALA


def test_too_few_rounds_are_refused():
    with pytest.raises(ValueError, match="three fitted bases can agree"):
        drl.SandwichSettings(most_rounds=3)


def test_unadjusted_kernels_are_refused():
    with pytest.raises(ValueError, match="adjusted"):
        drl.SandwichSettings(kernel=drl.ULA()).annealing()
    assert drl.SandwichSettings(kernel=MALA()).annealing().num_replicates == 8


@pytest.mark.parametrize("counts", [{"num_particles": 0}, {"num_particles": 1}, {"num_replicates": 1}])
def test_too_few_particles_are_refused_before_anything_runs(counts):
    with pytest.raises(ValueError, match=f"{next(iter(counts))} must be at least 2"):
        drl.SandwichSettings(**counts)
