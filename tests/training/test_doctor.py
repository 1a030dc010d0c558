"""The doctor's reasons for a rollback and its complaints."""

import math

from drl_density.training import Doctor


def test_divergence_is_seen():
    record = {"loss": 1.0, "validation_loss": 2.0, "energy_gap": [0.1, math.nan]}
    doctor, past = Doctor(), [{"loss": 1.1, "validation_loss": 1.9}]
    assert doctor.divergence(record, past, num_features=2) is None
    overfitted = record | {"validation_loss": 9.0}
    assert doctor.divergence(overfitted, past, num_features=2) is None
    for change in ({"loss": math.nan}, {"energy_gap": [0.0, 500.0]}, {"validation_loss": 9.0, "loss": 8.0}):
        assert doctor.divergence(record | change, past, num_features=2) is not None
    assert doctor.divergence(record | {"loss": -1.0}, [{"loss": -1.5, "validation_loss": 1.9}], num_features=2) is None


def test_a_positive_loss_that_multiplies_is_divergence():
    record = {"validation_loss": 1.0, "energy_gap": [math.nan]}
    doctor, past = Doctor(max_loss_rise=math.inf, max_loss_ratio=1.5), [{"loss": 40.0, "validation_loss": 1.0}]
    assert doctor.divergence(record | {"loss": 90.0}, [], num_features=2) is None
    assert doctor.divergence(record | {"loss": 59.0}, past, num_features=2) is None
    assert "rose from 40 to 61" in doctor.divergence(record | {"loss": 61.0}, past, num_features=2)


def test_doctor_complains_of_frozen_chains():
    record = {"acceptance_rate": [0.6, 0.1], "relative_jump": [0.001, 0.5], "spurious_gap": [0.0, 50.0]}
    found = "; ".join(Doctor().complaints(record, num_features=2))
    assert "hardly accept at level 1" in found
    assert "frozen at level 0" in found
    assert "above the data at level 1" in found


def test_an_objective_without_chains_has_no_complaints_about_them():
    record = {"acceptance_rate": [math.nan], "relative_jump": [math.nan]}
    assert Doctor().complaints(record, num_features=2) == []


def test_levels_whose_increments_scatter_are_named():
    record = {"acceptance_rate": [], "relative_jump": [], "level_scatter": [9.0, 1.0, 3.5, float("nan")]}
    assert Doctor().complaints(record, num_features=4) == ["path increments scatter by more than 3 nats at level 0, 2"]
