"""The gap between both directions by segment: small for levels that agree, and named where two do not."""

import pytest
import torch

from drl_density.model import EnergySequence
from drl_density.partition_function import segment_gaps
from drl_density.partition_function.sequence_paths.noise_grid import even_grid
from drl_density.partition_function.sequence_paths.particles import PathWeights
from drl_density.partition_function.sequence_paths.segments import SegmentGaps, gaps_between
from drl_density.schedule import NoiseSchedule
from drl_density.testing import gaussian_sequence, seeded_generator

SYSTEM = gaussian_sequence(torch.zeros(8), torch.eye(8), NoiseSchedule(torch.linspace(4, -8, 7)))


class Shifted(torch.nn.Module):
    """Levels 0 to 2 know another mean than the levels above, from a log-SNR of 0 on."""

    has_bounded_growth = False

    def forward(self, x, log_snr):
        shift = torch.sigmoid(log_snr).sqrt() * (log_snr > -0.1)
        return -0.5 * (x - shift).square().sum(1)


def test_two_levels_that_disagree_are_named():
    model = EnergySequence(SYSTEM.schedule, Shifted(), (8,), has_base=False, is_integrable=True)
    rows = 1 + torch.randn(200, 8, generator=seeded_generator(0))
    found = segment_gaps(model, rows, generator=seeded_generator(1))
    assert found.guilty[0] == (2.0, 3.0)
    assert found.gaps[2] > 0.8 * found.total > 1.0
    assert "levels 2 to 3 carry" in str(found)
    assert found.num_rows == 64


def test_levels_that_agree_have_no_gap():
    rows = SYSTEM.sample(200, None, generator=seeded_generator(2))
    found = segment_gaps(SYSTEM.model, rows, generator=seeded_generator(3))
    assert abs(found.total) < 0.5
    assert found.guilty == ()
    assert "carry" not in str(found)


def test_the_gaps_add_up_to_the_gap_of_the_mean_log_weights():
    grid = even_grid(SYSTEM.schedule, 13)
    down, up = torch.randn(2, 3, 5, 13, generator=seeded_generator(4), dtype=torch.float64)
    found = gaps_between(grid, 6, PathWeights(down), PathWeights(up))
    assert found.total == pytest.approx(float(up.sum(-1).mean() - down.sum(-1).mean()))
    inside = (grid.levels[:-1] >= 4) & (grid.levels[:-1] < 5)
    assert found.gaps[4] == pytest.approx(float((up - down)[..., inside].sum(-1).mean()))
    assert found.scatters[4] == pytest.approx(float(up[..., inside].sum(-1).std()))


def test_small_and_uncertain_gaps_are_not_named():
    levels = tuple((float(index), float(index + 1)) for index in range(5))
    found = SegmentGaps(levels, (9.0, 0.5, -4.0, 2.0, 3.0), (0.1, 0.1, 0.1, 0.1, 2.0), (1.0,) * 5, 64)
    assert found.guilty == ((0.0, 1.0), (2.0, 3.0))  # the third largest gap lies within three errors of zero


def test_three_rows_are_too_few():
    with pytest.raises(ValueError, match="at least 4 rows"):
        segment_gaps(SYSTEM.model, torch.zeros(3, 8))
