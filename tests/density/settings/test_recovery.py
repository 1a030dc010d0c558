"""Settings of the second stage: saved, and refused where no contrast precedes it."""

import pytest

import drl_density as drl


def test_they_survive_plain_values():
    recovery = drl.RecoverySettings(is_on=True, objective=drl.AdjustedObjective(kernel="hmc"), num_steps=5)
    settings = drl.FitSettings(recovery=recovery)
    assert drl.FitSettings.from_dict(settings.to_dict()) == settings
    assert drl.FitSettings.from_dict({"recovery": {"is_on": True}}) == drl.FitSettings(
        recovery=drl.RecoverySettings(is_on=True)
    )


@pytest.mark.parametrize(
    "values", [{"num_steps": 0}, {"time_share": 1.0}, {"learning_rate": 0.0}, {"patience": 0}], ids=str
)
def test_values_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} must"):
        drl.RecoverySettings(**values)


@pytest.mark.parametrize(
    "values", [{"objective": drl.AdjustedObjective()}, {"selection": "last"}], ids=["adjusted", "last"]
)
def test_a_stage_without_a_contrast_is_refused(values):
    drl.FitSettings(**values)
    with pytest.raises(ValueError, match="recovery follows a contrast"):
        drl.FitSettings(recovery=drl.RecoverySettings(is_on=True), **values)


def test_a_misspelt_field_is_named():
    with pytest.raises(ValueError, match="recovery.objective of class AdjustedObjective has no field 'kernal'"):
        drl.FitSettings.from_dict({"recovery": {"objective": {"kernal": "mala"}}})


def test_a_refined_fit_has_no_folds():
    recovery = drl.RecoverySettings(is_on=True)
    assert drl.FitSettings().may_fold
    assert not drl.FitSettings(recovery=recovery).may_fold
    with pytest.raises(ValueError, match="refines a single network"):
        drl.FitSettings(recovery=recovery, num_folds=3)
