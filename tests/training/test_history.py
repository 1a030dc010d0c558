"""The history as labelled arrays."""

import math

from drl_density.training import history_dataset


def test_numbers_run_over_steps_and_lists_over_levels_too():
    records = [
        {"step": 10, "loss": 1.0, "acceptance_rate": [0.5, 0.6], "complaints": ["a", "b"]},
        {"step": 20, "loss": 0.5, "acceptance_rate": [0.7, 0.8], "complaints": []},
    ]
    found = history_dataset(records)
    assert found["step"].values.tolist() == [10, 20]
    assert found["loss"].dims == ("step",)
    assert found["acceptance_rate"].dims == ("step", "level")
    assert found["acceptance_rate"].sel(step=20).values.tolist() == [0.7, 0.8]
    assert found["complaints"].values.tolist() == ["a; b", ""]


def test_a_number_that_one_record_lacks_is_nan_there():
    found = history_dataset([{"step": 1, "loss": 1.0, "score": 2.0}, {"step": 2, "loss": 3.0}])
    assert found["score"].values[0] == 2.0
    assert math.isnan(found["score"].values[1])


def test_no_records_give_an_empty_dataset():
    found = history_dataset([])
    assert len(found["step"]) == 0
    assert list(found.data_vars) == []


def test_parts_that_begin_later_are_nan_before():
    found = history_dataset([{"step": 1, "loss_contrast": 1.0}, {"step": 2, "loss_recovery": 3.0}])
    assert math.isnan(found["loss_recovery"].values[0])
    assert found["loss_recovery"].values[1] == 3.0


def test_numbers_per_level_that_begin_later_are_nan_at_every_level_before():
    found = history_dataset([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0, "spurious_gap": [0.5, 0.25]}])
    assert found["spurious_gap"].dims == ("step", "level")
    assert found["spurious_gap"].isnull().all("level").values.tolist() == [True, False]
    assert found["spurious_gap"].sel(step=2).values.tolist() == [0.5, 0.25]
