"""Settings of the noise levels: the papers' schedules, and ends chosen from the data."""

import pytest

from drl_density import (
    CosineSchedule,
    LinearBetaSchedule,
    LogSpacedSchedule,
)
from drl_density.schedule import NoiseSchedule


def test_the_default_is_log_spaced_with_ends_from_the_data():
    settings = LogSpacedSchedule().resolve(8, 0.07)
    expected = NoiseSchedule.log_spaced(settings.num_levels, sigma_min=0.07, sigma_max=0.995)
    assert settings.noise_schedule() == expected
    given = LogSpacedSchedule(sigma_min=0.2, sigma_max=0.9, num_levels=4)
    assert given.resolve(8, 0.07).noise_schedule() == NoiseSchedule.log_spaced(4, sigma_min=0.2, sigma_max=0.9)


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
    assert CosineSchedule(3).resolve(8, 0.07) == CosineSchedule(3)


def test_unresolved_settings_do_not_pass_for_resolved_ones():
    with pytest.raises(ValueError, match="schedule.num_levels is not chosen yet"):
        LogSpacedSchedule().noise_schedule()
    with pytest.raises(ValueError, match="schedule.sigma_min is not chosen yet"):
        LogSpacedSchedule(num_levels=3).noise_schedule()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LogSpacedSchedule(sigma_min=0.5, sigma_max=0.4), "need 0 < sigma_min < sigma_max < 1"),
        (lambda: LinearBetaSchedule(2000), r"num_levels must lie in \[1, 999\], got 2000"),
        (lambda: LogSpacedSchedule(num_levels=0), "num_levels must be at least 1"),
        (lambda: CosineSchedule(0), "num_levels must be at least 1"),
    ],
)
def test_settings_that_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()
