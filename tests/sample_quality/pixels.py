"""Random images, and extractors in closed form, that tests of this room share."""

import torch

from drl_density.sample_quality import FeatureExtractor
from drl_density.testing import seeded_generator


def images(count, *, seed=0, low=0, high=256):
    return torch.randint(low, high, (count, 1, 4, 4), generator=seeded_generator(seed), dtype=torch.uint8)


PIXELS = FeatureExtractor("pixels", lambda x: x.flatten(1).double())
CLASSES = FeatureExtractor(
    "parity", lambda x: x.flatten(1).double(), lambda x: 9.0 * torch.eye(2)[x[:, 0, 0, 0].long() % 2]
)
