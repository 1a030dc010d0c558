"""Settings of the training objectives: their kinds, the sizes of the initialiser, and values that are refused."""

import dataclasses

import pytest

from drl_density import (
    AdjustedObjective,
    ContrastObjective,
    CooperativeObjective,
    DenoisingObjective,
    FitSettings,
    LangevinObjective,
    LogSpacedSchedule,
    NormalObjective,
    PathObjective,
)
from drl_density.density.settings.objectives import OBJECTIVES


def test_every_objective_is_found_by_its_kind():
    assert {
        "adjusted": AdjustedObjective,
        "langevin": LangevinObjective,
        "normal": NormalObjective,
        "cooperative": CooperativeObjective,
        "denoising": DenoisingObjective,
        "contrast": ContrastObjective,
        "paths": PathObjective,
    } == OBJECTIVES


@pytest.mark.parametrize(
    ("side", "halvings"), [(4, 0), (7, 0), (8, 1), (9, 0), (12, 1), (14, 1), (16, 2), (18, 1), (28, 2), (64, 2)]
)
def test_the_initialiser_halves_even_sides_of_eight_pixels_or_more(side, halvings):
    assert CooperativeObjective().resolve(side).initializer_multipliers == (1,) * (halvings + 1)
    given = CooperativeObjective(initializer_multipliers=(1, 2))
    assert given.resolve(side) == given


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AdjustedObjective(noisier_share=1.5), r"noisier_share must lie in \[0, 1\]"),
        (lambda: AdjustedObjective(jump=0), "jump must be at least 1"),
        (lambda: LangevinObjective(num_chain_steps=0), "num_chain_steps must be at least 1"),
        (lambda: LangevinObjective(level_shares=(1.0, 0.0)), "level_shares"),
        (lambda: NormalObjective(langevin_factor=0.0), "langevin_factor must be positive"),
        (lambda: CooperativeObjective(initializer_rate=0.0), "initializer_rate must be positive"),
        (lambda: LangevinObjective(kernel="mara"), "kernel must be one of 'mala', 'hmc', 'ula', got 'mara'"),
        (lambda: CooperativeObjective(initializer_channels=0), "initializer_channels must be at least 1"),
        (lambda: DenoisingObjective(level_balance=1.1), r"level_balance must lie in \[0, 1\]"),
        (lambda: DenoisingObjective(classification_weight=-1.0), "classification_weight must be at least 0"),
    ],
)
def test_settings_that_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_shares_are_those_of_the_levels_of_the_schedule():
    """Checked before anything is trained, by the plan too."""
    settings = FitSettings(
        objective=LangevinObjective(level_shares=(1.0, 2.0, 4.0)), schedule=LogSpacedSchedule(num_levels=3)
    )
    assert settings.resolve(100, (2,), 0.1).objective.level_shares == (1.0, 2.0, 4.0)
    with pytest.raises(ValueError, match="one of objective.level_shares for each of 4 noise levels, got 3"):
        dataclasses.replace(settings, schedule=LogSpacedSchedule(num_levels=4)).resolve(100, (2,), 0.1)
