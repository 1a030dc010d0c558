"""Maps into tails are invertible and know their volume."""

import math

import pytest
import torch

from drl_density.partition_function.tails.moves import DriverShift, Stretch
from drl_density.partition_function.target_bases.scale_base import ScaleRegression
from drl_density.testing import seeded_generator


def rows():
    x = torch.randn(200, 3, generator=seeded_generator(0), dtype=torch.float64)
    x[:, 1:] *= (x[:, :1] / 2).exp()
    return x


def families():
    center, scale = torch.tensor([0.5, -1.0, 0.0]).double(), torch.tensor([1.0, 2.0, 0.5]).double()
    axes = torch.linalg.qr(torch.randn(3, 2, generator=seeded_generator(1)).double())[0]
    chart = ScaleRegression.fit(rows())
    return {
        "all": Stretch("all", center, scale, None, 1e12),
        "axes": Stretch("axes", center, scale, axes, 1e12),
        "driver": DriverShift(chart, -1, 0.2),
    }


@pytest.mark.parametrize("name", ["all", "axes", "driver"])
def test_moves_go_outwards_by_their_steps_and_know_their_volume(name):
    move, x = families()[name], rows()[:5]
    moved, volume = move.moved(x, 2.0)
    torch.testing.assert_close(move.place(moved), move.place(x) + 2)
    jacobian = torch.autograd.functional.jacobian(lambda point: move.moved(point[None], 2.0)[0][0], x[0])
    torch.testing.assert_close(volume[0], torch.linalg.slogdet(jacobian)[1])


def test_decay_is_measured_further_and_further_out():
    for move in families().values():
        assert len(move.far_steps) == 4
        assert list(move.far_steps) == sorted(move.far_steps)
    assert families()["all"].far_steps[-1] == pytest.approx(math.log2(1e12))
    assert "down" in families()["driver"].label
