"""Long chains on closed-form sequences: the verdict must follow the truth."""

import pytest
import torch

from drl_density.density import DiagnoseSettings
from drl_density.errors import DataError
from drl_density.mcmc import ULA
from tests.density.evaluation.exact import GAUSSIAN, rows_of, two_modes


def test_chains_of_the_truth_are_stable(stable):
    assert stable.verdict == "stable", stable.summary()
    assert stable["max_r_hat"] < 1.05
    assert stable["nested_r_hat"] < 1.05
    assert stable["ess_per_gradient"] == pytest.approx(1 / stable["autocorrelation_time"])
    assert "32 chains of 600 steps at level 0" in stable.summary()
    assert set(stable.tree.children) == {"posterior", "sample_stats", "occupancy"}
    assert stable.to_arviz()["posterior"].sizes["chain"] == 32


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


WRONG = {
    "chains": ({"num_chains": 4}, "num_chains must be at least 8"),
    "steps": ({"num_steps": 10}, "num_steps must be at least 100"),
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
    with pytest.raises(DataError, match="empty or NaN"):
        density_of(GAUSSIAN).diagnose(torch.full((40, 2), torch.nan))
