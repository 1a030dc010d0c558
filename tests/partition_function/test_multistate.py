"""The multistate ratio and thermodynamic integration against closed forms."""

import math

import pytest
import torch

from drl_density.partition_function import (
    bennett,
    multistate_bennett,
    thermodynamic_integration,
)


def test_multistate_bennett_and_thermodynamic_integration_on_gaussians():
    """Ten Gaussians of growing width: log Z ratios are log of the width ratios."""
    widths = torch.logspace(0, 0.5, 10, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    counts = torch.full((10,), 400)
    x = torch.cat([width * torch.randn(400, generator=generator, dtype=torch.float64) for width in widths])
    values = -0.5 * (x[None] / widths[:, None]) ** 2
    result = multistate_bennett(values, counts)
    truth = (widths / widths[0]).log()
    z = (result.log_z - truth)[1:] / result.standard_error[1:]
    assert float(z.abs().max()) < 4.5
    torch.testing.assert_close(result.overlap.sum(1), torch.ones(10, dtype=torch.float64), rtol=0, atol=1e-6)
    assert (
        abs(thermodynamic_integration(values, counts) - float(truth[-1])) < 6 * float(result.standard_error[-1]) + 1e-2
    )


def test_multistate_counts_must_fit():
    with pytest.raises(ValueError, match="counts"):
        multistate_bennett(torch.zeros(2, 5), torch.tensor([2, 2]))


def test_multistate_agrees_with_bennett_on_two_states():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(300, generator=generator).double(), 1.5 * torch.randn(300, generator=generator).double()
    x = torch.cat([first, second])
    values = torch.stack([-0.5 * x**2, -0.5 * (x / 1.5) ** 2])
    pair = bennett((values[1] - values[0])[:300], (values[1] - values[0])[300:])
    result = multistate_bennett(values, torch.tensor([300, 300]))
    assert float(result.log_z[1]) == pytest.approx(pair.log_z, abs=1e-6)
    assert float(result.standard_error[1]) == pytest.approx(pair.standard_error, rel=0.05)


def test_walls_are_steps_of_thermodynamic_integration():
    """A box of length 4, cut to 1 and then tilted: log Z falls by log 4, and by the integral of the tilt."""
    generator = torch.Generator().manual_seed(0)
    count = 4000
    wide = 4 * torch.rand(count, generator=generator, dtype=torch.float64)
    narrow = torch.rand(count, generator=generator, dtype=torch.float64)
    x = torch.cat([wide, narrow])
    values = torch.stack([torch.zeros_like(x), torch.where(x < 1, 0.0, -torch.inf)])
    counts = torch.tensor([count, count])
    assert abs(thermodynamic_integration(values, counts) + math.log(4)) < 0.06
    assert abs(float(multistate_bennett(values, counts).log_z[1]) + math.log(4)) < 0.06
