"""Shared fixtures of the commands: one table, and one tiny fit of it."""

import functools

import numpy as np
import pytest

from drl_density.cli import main
from drl_density.density import Density
from drl_density.partition_function import SandwichSettings
from tests.conftest import short_annealing

SMALL = [
    "--seed", "0", "--settings.schedule.num-levels", "3", "--settings.network.width", "16",
    "--settings.network.num-blocks", "1", "--settings.objective.num-samples", "400", "--settings.num-pool-draws", "40",
    "--settings.num-particles", "16", "--settings.base", "gaussian", "--settings.transform", "standardize",
    "--settings.selection", "last",
    "--settings.training.num-steps", "20", "--settings.training.evaluate-every", "10",
]  # fmt: skip


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=300), rng.normal(size=300).round(1), rng.poisson(4.0, 300)], 1)
    np.savetxt(path, values, delimiter=",", header="a,b,c", comments="", fmt="%.10g")
    return path


@pytest.fixture(scope="session")
def run(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    with short_annealing(most_mixture_steps=250):  # all: with rough marginals the fit is below its floor
        assert main(["fit", str(table), "--out", str(out), *SMALL]) == 0
    return out


@pytest.fixture
def quick_evaluation(monkeypatch):
    """Evaluations with few particles where a command offers no option for them."""
    sizes = SandwichSettings(num_particles=16, num_replicates=2, num_mixing_steps=3)
    monkeypatch.setattr(Density, "evaluate", functools.partialmethod(Density.evaluate, settings=sizes))
