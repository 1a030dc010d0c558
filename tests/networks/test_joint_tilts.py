"""Tilts evaluated together give what each gives alone."""

import pytest
import torch
from torch import nn

from drl_density.networks import ColumnTilt, ColumnTiltSettings
from drl_density.networks.joint_tilts import JointTilts, can_join
from drl_density.testing import seeded_generator


def awake(seed, **sizes):
    """A fixed network whose readout and modulation are not zero, in float64."""
    generator = seeded_generator(seed)
    network = ColumnTilt(ColumnTiltSettings(3, width=16, **sizes), generator=generator).double()
    for part in (network.readout, network.modulate):
        nn.init.normal_(part.weight, std=0.3, generator=generator)
    return network.eval().requires_grad_(False)


def rows(count=6):
    return 2 * torch.randn(count, 3, generator=seeded_generator(1), dtype=torch.float64)


LEVELS = {
    "one for all": torch.tensor(1.5).double(),
    "one each": torch.tensor([-3.0, 3.0, 3.0, -3.0, 0.0, 1.0]).double(),
}


@pytest.mark.parametrize("levels", list(LEVELS))
@pytest.mark.parametrize("sizes", [{}, {"num_blocks": 1, "num_sigmoids": 5, "column_width": 3, "dropout": 0.3}])
def test_values_and_gradients_are_those_of_each_alone(levels, sizes):
    tilts, log_snr = [awake(seed, **sizes) for seed in range(3)], LEVELS[levels]
    x = rows().requires_grad_()
    together = JointTilts(tilts)(x, log_snr)
    apart = torch.stack([tilt(x, log_snr) for tilt in tilts])
    assert float(apart.detach().abs().min()) > 1e-4
    torch.testing.assert_close(together, apart, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(values.square().sum(), x, retain_graph=True)[0] for values in (together, apart)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_tilts_that_differ_in_size_learn_or_drop_units_are_not_joined():
    assert can_join([awake(0), awake(1)])
    assert not can_join([awake(0), awake(1, num_blocks=1)])
    assert not can_join([awake(0), awake(1).train()])
    assert not can_join([awake(0), awake(1).requires_grad_()])
    with torch.inference_mode():
        assert not can_join([awake(0), awake(1)])
