"""Long chains on closed-form sequences: the verdict must follow the truth, and memory must not follow the length."""

import dataclasses

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.datasets import Column
from drl_density.density import DiagnoseSettings, Diagnosis, Provenance
from drl_density.density.evaluation.long_chains import marginal_target, mode_occupancy, run_long
from drl_density.density.evaluation.run_page import run_page
from drl_density.errors import DataError, RunFolderError
from drl_density.mcmc import HMC, ULA
from drl_density.testing import GaussianMixtureSequence, gaussian_sequence, seeded_generator
from drl_density.transforms import Affine

SCHEDULE = drl.NoiseSchedule.log_spaced(8, sigma_min=0.05)
SMALL = 0.03 * torch.eye(2, dtype=torch.float64)
MEANS = torch.tensor([[-1.5, 0.0], [1.5, 0.5]], dtype=torch.float64)
GAUSSIAN = gaussian_sequence(torch.tensor([0.3, -0.2]), torch.tensor([[1.0, 0.5], [0.5, 0.7]]), SCHEDULE)


def two_modes(weight):
    weights = torch.tensor([weight, 1 - weight], dtype=torch.float64)
    return GaussianMixtureSequence(weights, MEANS, torch.stack([SMALL, SMALL]), SCHEDULE)


@pytest.fixture(scope="module")
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


def rows_of(system, count=400, level=0.0):
    return system.sample(count, level, generator=seeded_generator(1))


@pytest.fixture(scope="module")
def stable(density_of):
    return density_of(GAUSSIAN).diagnose(
        rows_of(GAUSSIAN), settings=DiagnoseSettings(num_steps=600, num_chains=32), seed=0
    )


def test_chains_of_the_truth_are_stable(stable):
    assert stable.verdict == "stable", stable.summary()
    assert stable["max_r_hat"] < 1.05
    assert stable["nested_r_hat"] < 1.05
    assert stable["ess_per_gradient"] == pytest.approx(1 / stable["autocorrelation_time"])
    assert "32 chains of 600 steps at level 0" in stable.summary()
    assert set(stable.tree.children) == {"posterior", "sample_stats", "occupancy"}
    assert stable.to_arviz() is not None


@pytest.mark.parametrize("arguments", [{"level": 2.0}, {"is_recovery": True}, {"is_recovery": True, "level": 2.0}])
def test_any_level_and_recovery_conditionals(density_of, arguments):
    found = density_of(GAUSSIAN).diagnose(
        rows_of(GAUSSIAN), settings=DiagnoseSettings(num_steps=400, num_chains=32, **arguments), seed=0
    )
    assert found.verdict == "stable", found.summary()
    words = "recovery conditionals" if "is_recovery" in arguments else "level 2"
    assert words in found.summary()


def test_recovery_chains_are_told_from_wrong_data(density_of):
    """Rows of another spread: their own x_t is no draw of the model's conditional."""
    found = density_of(GAUSSIAN).diagnose(
        2.5 * rows_of(GAUSSIAN),
        settings=DiagnoseSettings(is_recovery=True, level=5.0, num_steps=200, num_chains=96),
        seed=0,
    )
    assert found.verdict == "drifting", found.summary()
    assert found["rank_p_value"] < 1e-3


def test_shifted_data_are_told_from_the_chains(density_of):
    found = density_of(GAUSSIAN).diagnose(
        rows_of(GAUSSIAN) + 2.0, settings=DiagnoseSettings(num_steps=200, num_chains=32), seed=0
    )
    assert found.verdict == "drifting"


@pytest.fixture(scope="module")
def slow(density_of):
    system = two_modes(0.3)
    return density_of(system).diagnose(rows_of(system), settings=DiagnoseSettings(num_steps=200, num_chains=32), seed=0)


def test_chains_that_stay_in_their_modes_are_slow_and_tempering_is_asked(slow):
    assert slow.verdict == "slow", slow.summary()
    assert slow["max_r_hat"] > 1.2
    assert slow["mode_switches"] < 0.01
    assert slow["tempered_max_r_hat"] < 1.05, slow.summary()
    assert slow["tempered_restarts"] > 5
    assert "parallel tempering over the noise levels mixes" in slow.advice
    assert "agrees with the data" in slow.advice
    assert slow.tree["tempering"]["swap_rate"].min() > 0.2


def test_tempering_sees_mode_weights_that_slow_chains_cannot(density_of):
    """Data with weights 0.8 and 0.2 where the model says 0.3 and 0.7: chains from data sit where they began."""
    found = density_of(two_modes(0.3)).diagnose(
        rows_of(two_modes(0.8)),
        settings=DiagnoseSettings(num_steps=200, num_chains=64, has_tempering=True),
        seed=0,
    )
    assert found["tempered_occupancy_p_value"] < 1e-3, found.summary()


def test_memory_does_not_follow_the_length(monkeypatch):
    monkeypatch.setattr("drl_density.density.evaluation.long_chains.MOST_KEPT", 100)
    target = marginal_target(GAUSSIAN.model, rows_of(GAUSSIAN), 0.0, 8, seeded_generator(2))
    run = run_long(target, HMC(num_leapfrog=2), 250, seeded_generator(3))
    assert run.thin == 3
    assert len(run.result.draws) == 83
    assert len(run.resolved) == 100
    assert run.gradients == 500


def test_page_and_files(stable, slow, tmp_path):
    for name, found in {"diagnosis_level_0.nc": stable, "diagnosis_recovery_1.nc": slow}.items():
        found.save(tmp_path / name)
    again = Diagnosis.load(tmp_path / "diagnosis_level_0.nc")
    assert again.summary() == stable.summary()
    page = run_page(tmp_path).to_html()
    assert page.count("data:image/png") == 3
    assert '<span class="verdict slow">chains of level 0: slow</span>' in page
    assert "parallel tempering" in page
    with pytest.raises(RunFolderError, match="no report and no diagnosis"):
        run_page(tmp_path / "elsewhere")
    Diagnosis(slow.tree["occupancy"].copy()).save(tmp_path / "other.nc")
    with pytest.raises(RunFolderError, match="expected a"):
        Diagnosis.load(tmp_path / "other.nc")


def test_occupancy_counts_modes():
    system = two_modes(0.3)
    rows = rows_of(system)
    draws = torch.stack([rows_of(two_modes(0.9), 64)] * 5)
    found = mode_occupancy(rows, draws, torch.arange(64))
    assert len(found.data) == 2
    assert found.p_value < 1e-6
    assert found.switches == 0
    np.testing.assert_allclose(found.data.sum(), 1.0)
    same = mode_occupancy(
        rows, system.sample(128, 0.0, generator=seeded_generator(6)).unflatten(0, (2, 64)), torch.arange(64)
    )
    assert same.p_value > 1e-4


WRONG = {
    "chains": ({"num_chains": 4}, "need at least"),
    "steps": ({"num_steps": 10}, "need at least"),
    "rows": ({"num_chains": 4000}, "half as many rows as chains"),
    "level": ({"level": 8.0}, "a level in"),
    "unadjusted": ({"kernel": ULA()}, "adjusted kernel"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name, density_of):
    arguments, message = WRONG[name]
    density, rows = density_of(GAUSSIAN), rows_of(GAUSSIAN)

    def run():
        settings = DiagnoseSettings(**{"num_steps": 200, "num_chains": 16, **arguments})
        return density.diagnose(rows, settings=settings)

    with pytest.raises(ValueError, match=message):
        run()


def test_incomplete_rows_are_refused(density_of):
    with pytest.raises(DataError, match="NaN or infinite"):
        density_of(GAUSSIAN).diagnose(torch.full((40, 2), torch.nan))
