"""Settings of a fit: choices by size, and every schedule within reach."""

import dataclasses
import json

import pytest
import torch

import drl_density as drl
from drl_density import (
    AdjustedObjective,
    CooperativeObjective,
    CosineSchedule,
    DenoisingObjective,
    FitSettings,
    LangevinObjective,
    LinearBetaSchedule,
    LogSpacedSchedule,
    MLPNetwork,
    NormalObjective,
    ResidualNetwork,
    UNetNetwork,
)
from drl_density.density.fitting.build import network_factory
from drl_density.density.fitting.table import prepare_table
from drl_density.errors import DataError
from drl_density.schedule import NoiseSchedule


def resolved(**given):
    return FitSettings(**given).resolve(1000, (8,), 0.07)


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
    assert FitSettings().resolve(rows, (columns,), 0.07).network.dropout == dropout
    assert FitSettings(network=MLPNetwork(dropout=0.2)).resolve(rows, (columns,), 0.07).network.dropout == 0.2


def test_the_papers_network_has_no_dropout_and_the_u_net_does():
    shape, schedule = (1, 8, 8), LogSpacedSchedule(num_levels=2, sigma_min=0.1).noise_schedule()
    assert FitSettings(network=UNetNetwork()).resolve(1000, shape, 0.07).network.dropout == 0.3
    settings = FitSettings(network=UNetNetwork(dropout=0.2)).resolve(1000, shape, 0.07)
    network, _ = network_factory(settings.network, settings.objective, schedule, 64).build(schedule, generator=None)
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)} == {0.2}
    with pytest.raises(TypeError, match="dropout"):
        ResidualNetwork(dropout=0.1)


def test_the_default_is_log_spaced_with_ends_from_the_data():
    settings = resolved()
    expected = NoiseSchedule.log_spaced(settings.schedule.num_levels, sigma_min=0.07, sigma_max=0.995)
    assert settings.schedule.noise_schedule() == expected
    given = LogSpacedSchedule(sigma_min=0.2, sigma_max=0.9, num_levels=4)
    assert resolved(schedule=given).schedule.noise_schedule() == NoiseSchedule.log_spaced(
        4, sigma_min=0.2, sigma_max=0.9
    )


def test_more_levels_reach_further_down_but_not_in_the_plane():
    """0.46 in log sigma below 0.1 is one level more, ten levels reaching to 0.1."""
    levels = {sigma: LogSpacedSchedule().resolve(8, sigma).num_levels for sigma in (0.1, 0.07, 0.06, 0.03)}
    assert levels == {0.1: 10, 0.07: 11, 0.06: 12, 0.03: 13}
    plane = LogSpacedSchedule().resolve(3, 0.1)
    assert (plane.num_levels, plane.sigma_min) == (10, 0.03)


def test_the_papers_schedules_are_reached():
    assert LinearBetaSchedule().noise_schedule() == NoiseSchedule.linear_beta()
    assert CosineSchedule().noise_schedule() == NoiseSchedule.cosine(6)
    assert LinearBetaSchedule(999).noise_schedule() == NoiseSchedule.linear_beta(range(1000))
    assert LinearBetaSchedule(10).noise_schedule().num_levels == 10
    assert resolved(schedule=CosineSchedule(3)).schedule == CosineSchedule(3)


KINDS = [
    {"schedule": LinearBetaSchedule(4), "objective": LangevinObjective(kernel="ula")},
    {"schedule": CosineSchedule(), "objective": NormalObjective(), "network": ResidualNetwork((1, 2, 4))},
    {"objective": CooperativeObjective(), "network": UNetNetwork((1, 2, 4), num_classes=3)},
    {"objective": DenoisingObjective(level_balance=0.5)},
    {},
]


@pytest.mark.parametrize("given", KINDS, ids=lambda given: "-".join(part.kind for part in given.values()) or "usual")
def test_settings_survive_their_file_and_resolve_once(given):
    """From JSON too, which has no tuples; and resolved settings stay what they are."""
    for settings in (FitSettings(**given), resolved(**given)):
        again = FitSettings.from_dict(json.loads(json.dumps(settings.to_dict())))
        assert again == settings
    assert settings.resolve(99, (8,), 0.1) == settings
    plain = settings.to_dict()
    assert [plain[name]["kind"] for name in ("objective", "network", "schedule")] == [
        settings.objective.kind,
        settings.network.kind,
        settings.schedule.kind,
    ]


def test_unresolved_settings_do_not_pass_for_resolved_ones():
    with pytest.raises(ValueError, match="schedule.num_levels is not chosen yet"):
        LogSpacedSchedule().noise_schedule()


def test_another_kind_keeps_the_fields_that_both_have():
    settings = FitSettings(
        objective=AdjustedObjective(num_chain_steps=7, jump=2), network=ResidualNetwork(num_blocks=3)
    )
    found = settings.with_kinds(objective="langevin", network="unet", schedule="cosine")
    assert found.objective == LangevinObjective(num_chain_steps=7)
    assert found.network == UNetNetwork(num_blocks=3)
    assert found.schedule == CosineSchedule()
    assert settings.with_kinds(objective="adjusted") == settings
    with pytest.raises(ValueError, match="network must be one of 'mlp', 'residual', 'unet', got 'unett'"):
        settings.with_kinds(network="unett")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LogSpacedSchedule(sigma_min=0.5, sigma_max=0.4), "need 0 < sigma_min < sigma_max < 1"),
        (lambda: LinearBetaSchedule(2000), "1 to 999 levels"),
        (lambda: FitSettings.from_dict({"schedule": {"kind": "linear"}}), "schedule must be one of 'log_spaced'"),
        (lambda: FitSettings(schedule="cosine"), "schedule must be one of LogSpacedSchedule, LinearBetaSchedule"),
        (lambda: FitSettings(objective="denoising"), "objective must be one of AdjustedObjective, .*got 'denoising'"),
        (lambda: MLPNetwork(width=0), "width must be at least 1"),
        (lambda: LogSpacedSchedule(num_levels=0), "num_levels must be at least 1"),
        (lambda: MLPNetwork(dropout=1.0), r"dropout must lie in \[0, 1\)"),
        (lambda: UNetNetwork(dropout=-0.1), r"dropout must lie in \[0, 1\)"),
        (lambda: AdjustedObjective(noisier_share=1.5), r"noisier_share must lie in \[0, 1\]"),
        (lambda: AdjustedObjective(jump=0), "jump must be at least 1"),
        (lambda: LangevinObjective(num_chain_steps=0), "num_chain_steps must be at least 1"),
        (lambda: NormalObjective(langevin_factor=0.0), "langevin_factor must be positive"),
        (lambda: CooperativeObjective(initializer_rate=0.0), "initializer_rate must be positive"),
        (lambda: FitSettings(objective=CooperativeObjective()), "trains an initialiser over images"),
        (
            lambda: FitSettings(network=UNetNetwork(is_step_calibrated=True)),
            'is_step_calibrated divides by Langevin steps, which the objective "adjusted" does not have',
        ),
        (
            lambda: FitSettings(network=UNetNetwork(num_classes=2)),
            'only the cooperative and the denoising objective learn labels, got "adjusted"',
        ),
        (lambda: drl.TrainingSettings(num_steps=0), "num_steps must be at least 1"),
        (lambda: drl.TrainingSettings(patience=0), "patience must be at least 1"),
        (lambda: drl.TrainingSettings(learning_rate=float("nan")), "need learning_rate > 0"),
    ],
)
def test_settings_that_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_fit_on_the_papers_six_levels(tiny_data, tiny_settings):
    """Six levels, noise-started unadjusted chains: trained, normalised, sampled."""
    settings = dataclasses.replace(
        tiny_settings,
        schedule=LinearBetaSchedule(),
        objective=AdjustedObjective(num_chain_steps=2, kernel="ula", noisier_share=1.0, chain_step_size=0.1),
    )
    density = drl.fit(tiny_data, seed=0, settings=settings, progress=False)
    assert float(density.model.schedule.sigma[-1]) == float(NoiseSchedule.linear_beta().sigma[-1])
    assert bool(torch.isfinite(density.log_prob(tiny_data.test)).all())
    assert density.settings.schedule.num_levels == 6


@pytest.mark.parametrize("minutes", [0, -1.0, float("nan")])
def test_no_time_is_refused_before_anything_is_written(tiny_data, tmp_path, minutes):
    with pytest.raises(DataError, match="positive number"):
        drl.fit(tiny_data, seed=0, out=tmp_path / "run", max_minutes=minutes)
    assert not (tmp_path / "run").exists()


def test_choices_are_described():
    table = prepare_table(drl.load_dataset("wine", seed=0)).with_bases("gaussian")
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
    with pytest.raises(DataError, match=r"rows of shape \(2,\), got \(4, 3\)"):
        tiny_density.log_prob(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="event_shape|support"):
        tiny_density.distribution().log_prob(torch.zeros(4, 3))
    assert tiny_density.log_prob(torch.zeros(2)).shape == ()
