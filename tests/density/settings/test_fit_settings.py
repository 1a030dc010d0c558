"""Settings of a fit: choices by size, and every schedule within reach."""

import json

import pytest

import drl_density as drl
from drl_density import (
    AdjustedObjective,
    ColumnNetwork,
    CooperativeObjective,
    CosineSchedule,
    DenoisingObjective,
    FitSettings,
    LangevinObjective,
    LinearBetaSchedule,
    MLPNetwork,
    NormalObjective,
    ResidualNetwork,
    TrainingSettings,
    UNetNetwork,
)


def resolved(**given):
    return FitSettings(**given).resolve(1000, (8,), 0.07)


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


@pytest.mark.parametrize(
    ("given", "objective", "network", "base"),
    [
        ({}, "contrast", "columns", "reference"),
        ({"base": "gaussian"}, "contrast", "columns", "gaussian"),
        ({"network": ColumnNetwork(width=8)}, "contrast", "columns", "reference"),
        ({"network": MLPNetwork(width=8)}, "adjusted", "mlp", "auto"),
        ({"network": UNetNetwork()}, "adjusted", "unet", "auto"),
        ({"objective": AdjustedObjective()}, "adjusted", "mlp", "auto"),
        ({"objective": DenoisingObjective()}, "denoising", "mlp", "auto"),
        ({"objective": DenoisingObjective(), "network": ColumnNetwork()}, "denoising", "columns", "auto"),
    ],
)
def test_objective_network_and_base_follow_each_other(given, objective, network, base):
    settings = FitSettings(**given)
    assert (settings.objective.kind, settings.network.kind, settings.base_kind) == (objective, network, base)


def test_kinds_that_were_not_asked_for_follow_those_that_were():
    usual = FitSettings()
    assert usual.with_kinds(objective="denoising") == FitSettings(objective=DenoisingObjective())
    found = usual.with_kinds(network="unet")
    assert (found.objective, found.network.kind) == (AdjustedObjective(), "unet")
    assert usual.with_kinds(objective="denoising", network="columns").network == ColumnNetwork()
    own = FitSettings(network=ColumnNetwork(width=8)).with_kinds(objective="denoising")
    assert own.network == ColumnNetwork(width=8)


def test_another_kind_keeps_the_fields_that_both_have():
    settings = FitSettings(
        objective=AdjustedObjective(num_chain_steps=7, jump=2), network=ResidualNetwork(num_blocks=3)
    )
    found = settings.with_kinds(objective="langevin", network="unet", schedule="cosine")
    assert found.objective == LangevinObjective(num_chain_steps=7)
    assert found.network == UNetNetwork(num_blocks=3)
    assert found.schedule == CosineSchedule()
    assert settings.with_kinds(objective="adjusted") == settings
    with pytest.raises(ValueError, match="network must be one of 'mlp', 'columns', 'residual', 'unet', 'none', got 'unett'"):
        settings.with_kinds(network="unett")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FitSettings.from_dict({"schedule": {"kind": "linear"}}), "schedule must be one of 'log_spaced'"),
        (lambda: FitSettings(schedule="cosine"), "schedule must be one of LogSpacedSchedule, LinearBetaSchedule"),
        (lambda: FitSettings(objective="denoising"), "objective must be one of AdjustedObjective, .*got 'denoising'"),
        (lambda: FitSettings(objective=CooperativeObjective()), "trains an initialiser over images"),
        (
            lambda: FitSettings(network=UNetNetwork(is_step_calibrated=True)),
            'is_step_calibrated divides by Langevin steps, which the objective "adjusted" does not have',
        ),
        (
            lambda: FitSettings(network=UNetNetwork(num_classes=2)),
            'only the cooperative and the denoising objective learn labels, got "adjusted"',
        ),
        (
            lambda: FitSettings(objective=LangevinObjective(), network=UNetNetwork(num_classes=2)),
            'only the cooperative and the denoising objective learn labels, got "langevin"',
        ),
        (
            lambda: FitSettings(objective=DenoisingObjective(), training=drl.TrainingSettings(is_compiled=True)),
            "the denoising objective differentiates twice",
        ),
        (lambda: drl.TrainingSettings(num_steps=0), "num_steps must be at least 1"),
        (lambda: drl.TrainingSettings(patience=0), "patience must be at least 1"),
        (lambda: drl.TrainingSettings(learning_rate=float("nan")), "learning_rate must be a finite number"),
    ],
)
def test_settings_that_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_folds_have_training_settings_of_their_own_where_none_are_given():
    given = TrainingSettings(num_steps=50, learning_rate=5e-3)
    found = FitSettings(training=given).resolve(100, (3,), 0.05, num_folds=5)
    assert found.num_folds == 5
    assert (found.training.num_steps, found.training.learning_rate) == (50, 5e-3)
    assert (found.training.weight_decay, found.training.evaluate_every, found.training.patience) == (0.3, 30, 4)
    whole = FitSettings(training=given).resolve(100, (3,), 0.05)
    assert (whole.num_folds, whole.training) == (1, given)
    assert found.resolve(100, (3,), 0.05, num_folds=5) == found


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"objective": AdjustedObjective()}, 'only the contrast objective is trained in folds, got "adjusted"'),
        ({"num_networks": 2}, "folds choose their own networks and reference"),
        ({"selection": "last"}, "folds choose their own networks and reference"),
        ({"base": "gaussian"}, "folds choose their own networks and reference"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_folds_go_with_the_usual_reference_and_the_contrast_objective(others, message):
    with pytest.raises(ValueError, match=message):
        FitSettings(num_folds=3, **others)
    assert not FitSettings(**others).may_fold
    assert FitSettings(num_folds=1, **others).num_folds == 1


@pytest.mark.parametrize(
    ("values", "objective", "network"),
    [
        ({"network": {"width": 64}}, "contrast", "columns"),
        ({"objective": {"num_samples": 400}}, "contrast", "columns"),
        ({"network": {"kind": "mlp"}, "objective": {"num_chain_steps": 2}}, "adjusted", "mlp"),
        ({"objective": {"kind": "adjusted"}, "network": {"width": 64}}, "adjusted", "mlp"),
        ({"objective": {"kind": "denoising"}}, "denoising", "mlp"),
    ],
)
def test_plain_values_without_a_kind_are_of_the_usual_one(values, objective, network):
    settings = drl.FitSettings.from_dict(values)
    assert (settings.objective.kind, settings.network.kind) == (objective, network)
    for name, fields in values.items():
        for field, value in fields.items():
            assert getattr(getattr(settings, name), field) == value
