"""Times of levels: exact at a table's entries, continuous between them."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.networks.level_embedding import LevelEmbedding, interpolate


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


def test_features_are_sines_and_cosines_of_the_time():
    embedding, log_snr = LevelEmbedding(6, [2.0, 0.0]), torch.tensor([2.0, 1.0])
    angles = embedding.time(log_snr)[:, None] * torch.tensor([1.0, 1e-2, 1e-4])
    torch.testing.assert_close(embedding(log_snr), torch.cat([angles.sin(), angles.cos()], 1))


def test_interpolation_is_linear_inside_and_constant_outside():
    table, values = torch.tensor([3.0, 1.0, 0.0]), torch.tensor([1.0, 5.0, 4.0])
    found = interpolate(table, values, torch.tensor([9.0, 3.0, 2.0, 1.0, 0.25, 0.0, -9.0]))
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 3.0, 5.0, 4.25, 4.0, 4.0]))
    assert torch.equal(interpolate(table[:1], values[:1], torch.tensor([9.0, -9.0])), torch.tensor([1.0, 1.0]))


@pytest.mark.parametrize(("num_features", "table"), [(5, None), (2, None)])
def test_sizes_that_do_not_fit_are_refused(num_features, table):
    with pytest.raises(ValueError, match="an even number of features, at least 4"):
        LevelEmbedding(num_features, table)


def test_a_table_that_does_not_fall_is_refused():
    with pytest.raises(ValueError, match="must fall from level to level"):
        LevelEmbedding(4, [0.0, 0.0])
