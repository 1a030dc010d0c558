"""Time limits."""

import dataclasses

import pytest

import drl_density as drl
from drl_density.density.fitting.forecast import seconds_per_step, within_time
from drl_density.density.fitting.plan import plan_fit


@pytest.mark.filterwarnings("ignore:max_minutes leaves:drl_density.errors.DRLDensityWarning")
def test_time_limits_cut_the_steps(tiny_data, tiny_settings):
    training = drl.TrainingSettings(num_steps=10**6, evaluate_every=20)
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, base="gaussian", training=training))
    assert seconds_per_step(plan) > 0
    forecast = within_time(plan, 0.01)
    assert forecast.seconds > 0
    assert 20 <= forecast.num_steps < 10**5
    assert plan.with_num_steps(forecast.num_steps).settings.training.num_steps == forecast.num_steps
