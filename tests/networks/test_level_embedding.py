"""Times of levels: exact at a table's entries, continuous between them."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.networks.level_embedding import LevelEmbedding


def test_levels_are_met_exactly_and_continuous_between():
    schedule = NoiseSchedule.linear_beta()
    embedding = LevelEmbedding(8, schedule.log_snr[:-1].tolist())
    levels = torch.arange(6, dtype=torch.float64)
    assert torch.allclose(embedding.time(schedule.log_snr_at(levels)).double(), levels, atol=1e-5)
    assert float(embedding.time(schedule.log_snr_at(2.5))) == pytest.approx(2.5, abs=1e-5)
    free = LevelEmbedding(8)
    times = free.time(NoiseSchedule.cosine(6).log_snr)
    # arctan(exp(-lambda/2)) is what the cosine schedule spaces evenly
    assert torch.allclose(times.diff(), times.diff().mean().expand(6), rtol=1e-6)
    assert 0 < float(times[0]) < float(times[-1]) < 1000
