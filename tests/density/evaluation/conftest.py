"""A report and diagnoses that several tests look at, each made once."""

import dataclasses

import pytest

from drl_density.datasets import Column
from drl_density.density import DiagnoseSettings, Provenance
from drl_density.transforms import Affine
from tests.density.evaluation.exact import GAUSSIAN, rows_of, two_modes
from tests.density.evaluation.sizes import SMALL


@pytest.fixture(scope="session")
def report(tiny_density, tiny_data):
    return tiny_density.evaluate(tiny_data.test, seed=0, settings=SMALL)


@pytest.fixture(scope="session")
def density_of(tiny_density):
    """A fitted density whose model is replaced by an exact one."""

    def make(system):
        return dataclasses.replace(
            tiny_density,
            model=system.model,
            transform=Affine(0.0, 1.0),
            columns=(Column("a"), Column("b")),
            provenance=Provenance(name="exact"),
        )

    return make


@pytest.fixture(scope="session")
def stable(density_of):
    return density_of(GAUSSIAN).diagnose(
        rows_of(GAUSSIAN), settings=DiagnoseSettings(num_steps=600, num_chains=32), seed=0
    )


@pytest.fixture(scope="session")
def slow(density_of):
    system = two_modes(0.3)
    return density_of(system).diagnose(rows_of(system), settings=DiagnoseSettings(num_steps=200, num_chains=32), seed=0)
