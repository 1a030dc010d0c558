"""Outlier scores."""

import math

import pytest
import torch

from drl_density.errors import DataError


def test_outlier_scores_rank_rows(tiny_density, tiny_data):
    far = torch.tensor([[9.0, -9.0]], dtype=torch.float64)
    scores = tiny_density.outlier_scores(torch.cat([tiny_data.test, far]), reference=tiny_data.validation, seed=0)
    assert scores.p_value.shape == (len(tiny_data.test) + 1,)
    assert float(scores.p_value[-1]) == pytest.approx(1 / (1 + len(tiny_data.validation)))
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


def test_noise_drawn_in_blocks_is_that_of_all_rows(tiny_density, tiny_data, monkeypatch):
    whole = tiny_density.outlier_scores(tiny_data.test, seed=0).profile
    monkeypatch.setattr("drl_density.density.evaluation.outlier_scores.ROWS_OF_NOISE", 8)
    torch.testing.assert_close(tiny_density.outlier_scores(tiny_data.test, seed=0).profile, whole)
