"""Units in which moments of columns neither overflow nor underflow."""

import pytest
import torch

from drl_density.testing import seeded_generator
from drl_density.transforms import binary_units, fit_marginal_gaussianization, standardize, whiten

ROWS = torch.randn(100, 1, generator=seeded_generator(0), dtype=torch.float64)


def test_units_are_the_powers_of_two_below_the_largest_magnitudes():
    x = torch.tensor([[1e300, 3e-300, float("nan")], [-7e299, 0.0, 0.0]], dtype=torch.float64)
    units = binary_units(x)
    assert bool((torch.frexp(units).mantissa == 0.5).all())
    shares = torch.tensor([1e300, 3e-300], dtype=torch.float64) / units[:2]
    assert bool(((shares >= 1) & (shares < 2)).all())
    assert float(binary_units(torch.full((1, 1), 1.7e308, dtype=torch.float64))) == 2.0**1023
    assert float(units[2]) == 1.0


@pytest.mark.parametrize("scale", [1e300, 1e-300])
@pytest.mark.parametrize("fit", [standardize, whiten, fit_marginal_gaussianization])
def test_transforms_do_not_depend_on_the_unit(fit, scale):
    plain, scaled = fit(ROWS)(ROWS), fit(scale * ROWS)(scale * ROWS)
    torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=1e-9)
