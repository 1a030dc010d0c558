"""Outlier scores."""

import math

import pytest
import torch

from drl_density.errors import DataError


def test_outlier_scores_rank_rows(tiny_density, tiny_data):
    far = torch.tensor([[9.0, -9.0]], dtype=torch.float64)
    scores = tiny_density.outlier_scores(torch.cat([tiny_data.test, far]), reference=tiny_data.validation)
    assert scores.p_value.shape == (len(tiny_data.test) + 1,)
    assert float(scores.p_value[-1]) == 1 / (1 + len(tiny_data.validation))
    assert 0.2 < float(scores.p_value[:-1].mean()) < 0.8
    torch.testing.assert_close(scores.log_density[:-1], tiny_density.log_prob(tiny_data.test))
    assert bool((scores.interval()[0] < scores.interval()[1]).all())
    assert scores.profile.shape[1] == tiny_density.model.num_levels
    assert float(scores.profile[-1, 0]) < -3
    assert not bool(scores.profile.isnan().any())
    torch.testing.assert_close(scores.strangeness, -scores.profile[:, 0] - scores.profile.mean(1))
    assert float((scores.strangeness[:-1] < scores.strangeness[-1]).double().mean()) > 0.95
    with pytest.raises(DataError, match="at least 20 reference rows"):
        tiny_density.outlier_scores(far, reference=far)
    with pytest.raises(DataError, match="empty or NaN"):
        tiny_density.outlier_scores(torch.full((1, 2), math.nan))


def test_the_scores_of_a_row_depend_on_the_row_alone(tiny_density, tiny_data):
    """Neither on its place, nor on the rows beside it, but for the order of sums in float32."""
    rows = tiny_data.test
    whole, turned, alone = (tiny_density.outlier_scores(some) for some in (rows, rows.flip(0), rows[3:4]))
    for name in ("log_density", "p_value", "strangeness", "profile"):
        values = getattr(whole, name)
        torch.testing.assert_close(getattr(turned, name).flip(0), values, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(getattr(alone, name), values[3:4], rtol=1e-6, atol=1e-6)
