"""A density of images of 2 by 2 pixels with 3 grey levels, of which all 81 are listed."""

import itertools

import torch

from drl_density.bases import AutoregressivePixels, PixelSettings
from drl_density.testing import seeded_generator


def dependent(shape=(1, 2, 2), num_cells=3, **sizes):
    """A density with uneven histograms and weights far from those of a new one."""
    given = {"width": 16, "rank": 6, **sizes}
    settings = PixelSettings(shape, num_cells=num_cells, **given)
    logits = torch.randn(settings.num_features, num_cells, generator=seeded_generator(9), dtype=torch.float64)
    base = AutoregressivePixels(settings, logits.log_softmax(1), generator=seeded_generator(0))
    for index, weight in enumerate(base.weights()):
        weight.add_(0.3 * torch.randn(weight.shape, generator=seeded_generator(index)))
    return base


def all_images(base):
    """Grey levels of every image, ``(num_cells**d, d)``."""
    settings = base.settings
    return torch.tensor(list(itertools.product(range(settings.num_cells), repeat=settings.num_features)))
