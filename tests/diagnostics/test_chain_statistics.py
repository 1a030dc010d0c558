"""Convergence statistics against their formulas."""

import pytest
import torch

from drl_density.diagnostics import nested_r_hat, split_r_hat
from drl_density.testing import seeded_generator


def test_split_r_hat_tells_chains_apart():
    draws = torch.randn(4, 100, 2, generator=torch.Generator().manual_seed(0))
    draws[0, :, 1] += 5
    values = split_r_hat(draws)
    assert float(values[0]) < 1.1
    assert float(values[1]) > 1.3


def test_nested_r_hat_is_its_formula():
    """Superchains at known means: B is their variance, W the mean within."""
    generator = seeded_generator(4)
    x = torch.randn(4000, 8, 1, generator=generator, dtype=torch.float64)
    labels = [index // 2 for index in range(8)]
    assert float(nested_r_hat(x, labels)) < 1.001
    shift = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64).repeat_interleave(2)[:, None]
    exact = (1 + float(torch.tensor([0.0, 1.0, 2.0, 3.0]).var())) ** 0.5
    # Means of 4,000 draws err by 1/sqrt(8,000) each: the ratio by less than 4 * 1.3 / sqrt(8,000) / exact < 0.04.
    assert float(nested_r_hat(x + shift, labels)) == pytest.approx(exact, abs=0.04)
    with pytest.raises(ValueError, match="two superchains of equal size"):
        nested_r_hat(x, [0] * 5 + [1] * 3)
