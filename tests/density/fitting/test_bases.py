"""Choice of the fixed base and of the noise of level 0."""

import pytest
import torch

import drl_density as drl
from drl_density.density.fitting.bases import choose_bases


def test_noise_of_level_zero_is_the_widest_that_costs_nothing():
    """Nearly collinear columns need little noise, round ones take the widest; a given value is kept."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(600, 5, generator=generator, dtype=torch.float64)
    narrow = wide[:, :1] + 0.03 * wide
    chosen = {name: choose_bases(rows[:400], rows[400:]) for name, rows in (("wide", wide), ("narrow", narrow))}
    assert chosen["wide"].sigma_min == 0.1
    assert chosen["narrow"].sigma_min < 0.05
    settings = drl.FitSettings()
    resolved = {name: settings.resolve(400, (5,), bases.sigma_min) for name, bases in chosen.items()}
    assert resolved["narrow"].schedule.num_levels > resolved["wide"].schedule.num_levels
    assert drl.LogSpacedSchedule(sigma_min=0.2).resolve(5, 0.03).sigma_min == 0.2


def test_bases_are_what_they_are_called():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 4, generator=generator, dtype=torch.float64)
    rows[:250] += 4.0
    chosen = choose_bases(rows[::2], rows[1::2])
    assert list(chosen.mixtures)[0] == "gaussian"
    assert len(chosen.mixtures) == 2
    assert max(chosen.scores, key=chosen.scores.get) == list(chosen.mixtures)[1]
    assert list(choose_bases(rows[::2], rows[1::2], kind="independent").mixtures) == ["independent"]
    with pytest.raises(ValueError, match="base must be one of"):
        choose_bases(rows, rows, kind="flow")
