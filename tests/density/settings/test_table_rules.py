"""Training settings of folds."""

from drl_density.density.settings.table_rules import FOLD_TRAINING, fold_training
from drl_density.training import TrainingSettings


def test_folds_replace_defaults_and_nothing_that_was_given():
    usual = fold_training(TrainingSettings(num_steps=70))
    assert {name: getattr(usual, name) for name in FOLD_TRAINING} == FOLD_TRAINING
    assert usual.num_steps == 70
    assert fold_training(TrainingSettings(patience=9)).patience == 9
