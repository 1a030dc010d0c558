"""Settings of a fit: choices by size, and every schedule within reach."""

import dataclasses

import pytest
import torch

import drl_density as drl
from drl_density.density import FitSettings
from drl_density.density.fitting.build import build_image_networks
from drl_density.density.fitting.table import prepare_table
from drl_density.errors import DataError
from drl_density.schedule import NoiseSchedule


def resolved(**given):
    return FitSettings(**given).resolve(1000, 8, 0.07)


@pytest.mark.parametrize(
    ("rows", "columns", "dropout"),
    [
        (299, 2, 0.3),
        (300, 10, 0.1),
        (300, 11, 0.3),
        (1400, 64, 0.3),
        (4999, 64, 0.1),
        (5000, 64, 0.0),
        (5000, 200, 0.0),
    ],
)
def test_dropout_follows_the_rows_there_are_per_column(rows, columns, dropout):
    assert FitSettings().resolve(rows, columns, 0.07).dropout == dropout
    assert FitSettings(dropout=0.2).resolve(rows, columns, 0.07).dropout == 0.2


def test_the_papers_network_drops_nothing_and_the_u_net_does():
    """Asked of "residual", dropout is refused; of settings that were resolved before, whatever they say, it is none."""
    shape = (1, 8, 8)
    assert FitSettings(network="unet").resolve(1000, 64, 0.07, event_shape=shape).dropout == 0.3
    found = FitSettings(network="residual").resolve(1000, 64, 0.07, event_shape=shape)
    assert found.dropout == 0.0
    saved = dataclasses.replace(found, dropout=0.1)
    assert saved.resolve(1000, 64, 0.07, event_shape=shape) == saved
    settings = FitSettings(network="unet", dropout=0.2).resolve(1000, 64, 0.07, event_shape=shape)
    network, _ = build_image_networks(settings, settings.noise_schedule(), None)
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)} == {0.2}
    with pytest.raises(DataError, match='network "residual" drops no features; use network "unet"'):
        FitSettings(network="residual", dropout=0.1).resolve(1000, 64, 0.07, event_shape=shape)


def test_the_default_is_log_spaced_with_ends_from_the_data():
    settings = resolved()
    expected = NoiseSchedule.log_spaced(settings.num_levels, sigma_min=0.07, sigma_max=0.995)
    assert settings.noise_schedule() == expected
    assert resolved(sigma_min=0.2, sigma_max=0.9, num_levels=4).noise_schedule() == NoiseSchedule.log_spaced(
        4, sigma_min=0.2, sigma_max=0.9
    )


def test_the_papers_schedules_are_reached():
    assert resolved(schedule="linear_beta").noise_schedule() == NoiseSchedule.linear_beta()
    assert resolved(schedule="cosine", num_levels=6).noise_schedule() == NoiseSchedule.cosine(6)
    assert resolved(schedule="cosine").num_levels == 6
    thousand = resolved(schedule="linear_beta", num_levels=999).noise_schedule()
    assert thousand == NoiseSchedule.linear_beta(range(1000))
    assert resolved(schedule="linear_beta", num_levels=10).noise_schedule().num_levels == 10


@pytest.mark.parametrize("schedule", ["log_spaced", "linear_beta", "cosine"])
def test_resolved_settings_survive_their_file(schedule):
    settings = resolved(schedule=schedule)
    again = FitSettings.from_dict(settings.to_dict())
    assert again == settings
    assert again.noise_schedule() == settings.noise_schedule()
    assert again.resolve(1000, 8, 0.1) == settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "cosine", "sigma_min": 0.3}, "sigma_min belongs to the log_spaced schedule"),
        ({"schedule": "linear_beta", "sigma_max": 0.9}, "sigma_max belongs to the log_spaced schedule"),
        ({"schedule": "linear"}, "schedule must be one of 'log_spaced', 'linear_beta', 'cosine'"),
        ({"schedule": "linear_beta", "num_levels": 2000}, "1 to 999 levels"),
    ],
)
def test_ends_that_do_not_belong_to_the_schedule(given, message):
    with pytest.raises(ValueError, match=message):
        resolved(**given)


def test_a_fit_on_the_papers_six_levels(tiny_data, tiny_settings):
    """Six levels, noise-started unadjusted chains: trained, normalised, sampled."""
    settings = dataclasses.replace(
        tiny_settings, schedule="linear_beta", num_levels=6, kernel="ula", noisier_share=1.0, chain_step_size=0.1
    )
    density = drl.fit(tiny_data, settings=settings, progress=False)
    assert float(density.model.schedule.sigma[-1]) == float(NoiseSchedule.linear_beta().sigma[-1])
    assert bool(torch.isfinite(density.log_prob(tiny_data.test)).all())
    assert density.settings.num_levels == 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FitSettings(width=0), "width must be at least 1"),
        (lambda: FitSettings(num_levels=0), "num_levels must be at least 1"),
        (lambda: FitSettings(dropout=1.0), "dropout must lie in"),
        (lambda: drl.TrainingSettings(num_steps=0), "num_steps must be at least 1"),
        (lambda: drl.TrainingSettings(patience=0), "patience must be at least 1"),
        (lambda: drl.TrainingSettings(learning_rate=float("nan")), "need learning_rate > 0"),
    ],
)
def test_settings_that_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("minutes", [0, -1.0, float("nan")])
def test_no_time_is_refused_before_anything_is_written(tiny_data, tmp_path, minutes):
    with pytest.raises(DataError, match="positive number"):
        drl.fit(tiny_data, out=tmp_path / "run", max_minutes=minutes)
    assert not (tmp_path / "run").exists()


def test_choices_are_described():
    table = prepare_table(drl.load_dataset("wine", seed=0), base="gaussian")
    said = table.describe()
    assert "alcohol: " in said
    assert "logistic component" in said
    assert "kept gaussian" in said
    assert "standardize" not in said


def test_the_rate_warms_up_and_falls_as_a_half_cosine():
    settings = drl.TrainingSettings(num_steps=1000, learning_rate=2.0)
    assert settings.rate(0) == pytest.approx(2.0 / 100, rel=1e-3)
    assert settings.rate(500) == pytest.approx(1.0, rel=1e-12)
    assert settings.rate(1000) == pytest.approx(0.0, abs=1e-12)


def test_rows_of_another_shape_are_refused(tiny_density):
    with pytest.raises(DataError, match=r"event shape \(2,\), got \(4, 3\)"):
        tiny_density.log_prob(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="event_shape|support"):
        tiny_density.distribution().log_prob(torch.zeros(4, 3))
    assert tiny_density.log_prob(torch.zeros(2)).shape == (1,)
