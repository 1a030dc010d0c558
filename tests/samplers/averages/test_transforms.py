"""Transforms of points: orthonormal, with the frequencies and bands of their coefficients."""

import pytest
import torch

from drl_density.samplers import cosine_axes, haar_axes
from drl_density.samplers.averages.transforms import check_axes
from drl_density.testing import seeded_generator


@pytest.mark.parametrize("axes", [cosine_axes((4, 6))[0], haar_axes(4, 6)[0], cosine_axes((7,))[0]])
def test_transforms_are_orthonormal(axes):
    torch.testing.assert_close(axes.T @ axes, torch.eye(len(axes), dtype=torch.float64))
    x = torch.randn(3, len(axes), generator=seeded_generator(0), dtype=torch.float64)
    torch.testing.assert_close((x @ axes).square().sum(1), x.square().sum(1))


def test_frequencies_and_sizes():
    assert float(cosine_axes((2, 2))[1].max()) == 1.0
    with pytest.raises(ValueError, match="even sizes"):
        haar_axes(3, 4)


@pytest.mark.parametrize("axes", [2 * torch.eye(2), torch.ones(2, 3), torch.full((2, 2), torch.nan), torch.ones(0, 0)])
def test_matrices_that_are_not_orthonormal_are_refused(axes):
    with pytest.raises(ValueError, match="orthonormal"):
        check_axes(axes)
