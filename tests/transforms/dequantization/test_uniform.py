"""Uniform noise of a stated width: where it is added, and the bound that it gives."""

import torch

from drl_density.testing import assert_z, seeded_generator
from drl_density.transforms import Dequantization


def test_dequantization_bounds_the_probability_of_a_count():
    """Mean over the noise of log density + log width is at most the log mass of the cell (Jensen)."""
    generator = seeded_generator(5)
    width = torch.tensor([1.0], dtype=torch.float64)
    dequantize = Dequantization(width)
    normal = torch.distributions.Normal(0.0, 2.0)
    noisy = dequantize(torch.ones(4000, 1, dtype=torch.float64), generator=generator)
    bound = float(normal.log_prob(noisy).mean() + dequantize.log_volume)
    mass = float((normal.cdf(torch.tensor(1.5)) - normal.cdf(torch.tensor(0.5))).log())
    assert bound < mass
    assert abs(noisy - 1).max() <= 0.5


def test_noise_is_uniform_in_columns_with_a_width_and_absent_elsewhere():
    dequantize = Dequantization(torch.tensor([2.0, 0.0], dtype=torch.float64))
    noisy = dequantize(torch.full((5000, 2), 3), generator=seeded_generator(0))
    assert noisy.dtype == torch.float64
    assert noisy[:, 1].tolist() == [3.0] * 5000
    assert_z(noisy[:, 0], 3.0)
    assert_z((noisy[:, 0] - 3).square(), 4 / 12)
    assert float(dequantize.log_volume) == torch.tensor(2.0).double().log()


def test_noise_stays_inside_the_cell_where_float64_is_coarse():
    """Half a width of 1 beside 2^44 is 512 float64 numbers, so that rounding would often place a sum on the edge."""
    x = torch.full((20_000, 1), 2.0**44, dtype=torch.float64)
    noisy = Dequantization(torch.tensor([2.0**-4], dtype=torch.float64))(x, generator=seeded_generator(3))
    assert float((noisy - x).abs().max()) < 2.0**-5
    assert len(noisy.unique()) > 10
