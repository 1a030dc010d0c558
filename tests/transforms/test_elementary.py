"""Shift and scale, whitening and logit: moments, tails, and every refusal."""

import math

import pytest
import torch

from drl_density.errors import DataError
from drl_density.testing import seeded_generator
from drl_density.transforms import Affine, logit, standardize, whiten
from tests.transforms.cases import rows


def test_standardized_columns_have_mean_zero_and_variance_one():
    u = standardize(rows())(rows())
    torch.testing.assert_close(u.mean(0), torch.zeros(4).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(u.std(0), torch.ones(4).double(), rtol=1e-12, atol=0)


def test_missing_values_play_no_part():
    x = rows()
    x[:100, 1] = math.nan
    transform = standardize(x)
    seen = x[100:, 1]
    # Moments of the seen values divide by their number, as weights that sum to 1 do.
    torch.testing.assert_close(transform.scale[1], 1 / seen.std(correction=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(transform(x)[100:, 1].mean(), torch.tensor(0.0).double(), rtol=0, atol=1e-12)


def test_weights_count_as_repetitions():
    x, weights = rows()[:50], torch.arange(1.0, 51.0, dtype=torch.float64)
    repeated = x.repeat_interleave(weights.long(), 0)
    torch.testing.assert_close(whiten(x, weights=weights).mean, repeated.mean(0), rtol=1e-12, atol=0)
    holed = x.clone()
    holed[0, 0] = math.nan
    mean = repeated[1:].mean(0)[0]  # the first row has weight 1
    transform = standardize(holed, weights=weights)
    torch.testing.assert_close(-transform.loc[0] / transform.scale[0], mean, rtol=1e-12, atol=0)


def test_whitened_rows_have_identity_covariance():
    u = whiten(rows())(rows())
    torch.testing.assert_close(u.T.cov(), torch.eye(4).double(), rtol=0, atol=1e-10)


def test_numbers_apply_to_every_column_and_keep_the_dtype():
    transform, x = Affine(1.0, -3.0), torch.randn(5, 4, generator=seeded_generator(0))
    assert transform(x).dtype == torch.float32
    assert torch.equal(transform(x), 1.0 - 3.0 * x)
    expected = torch.full((5,), 4 * math.log(3.0), dtype=torch.float64)
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, x), expected, rtol=1e-12, atol=0)


def test_plain_maps_have_no_tail():
    for transform in (Affine(0.0, 2.0), whiten(rows()), logit(0.0, 1.0)):
        assert float(transform.tail_scale) == 0.0
        assert transform.carry_tail(torch.tensor(0.0)) == 0.0


BAD = [
    (lambda: standardize(torch.ones(5, 2)), DataError, r"columns \[0, 1\] do not vary"),
    (lambda: whiten(torch.arange(6.0).reshape(3, 2)), DataError, "linearly dependent"),
    (lambda: logit(1.0, 0.0), ValueError, "lower < upper"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[row[2] for row in BAD])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
