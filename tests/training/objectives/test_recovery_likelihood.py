"""Recovery likelihood with adjusted chains: its options and what is refused."""

import pytest

from drl_density import RecoveryLikelihood
from drl_density.mcmc import ULA
from drl_density.training import history_dataset, train
from tests.training.small_runs import draw, evaluation, fresh, settings


@pytest.mark.parametrize(
    "objective",
    [
        RecoveryLikelihood(num_steps=2, noisier_share=1.0),
        RecoveryLikelihood(num_steps=2, noisier_share=0.5, jump=3),
        RecoveryLikelihood(num_steps=2, kernel=ULA()),
        RecoveryLikelihood(num_steps=2, classification_weight=0.0),
        RecoveryLikelihood(num_steps=2, recovery_weight=0.0),
    ],
    ids=["noise-started", "mixed, jump", "unadjusted", "recovery alone", "classification alone"],
)
def test_options_of_the_objective(objective):
    state = fresh()
    train(state, objective, draw, settings=settings(num_steps=10), evaluation=evaluation())
    assert len(state.history) == 1
    history = history_dataset(state.history)
    assert history["energy_gap"].dims == ("step", "level")
    assert ("loss_classification" in history) == bool(objective.classification_weight)


@pytest.mark.parametrize("changes", [{"num_steps": 0}, {"jump": 0}, {"noisier_share": 1.5}], ids=str)
def test_bad_objectives(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must"):
        RecoveryLikelihood(**changes)
