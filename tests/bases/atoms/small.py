"""A small mixture of spike-and-slab products, whose cells end at odd multiples of 0.03."""

import torch

from drl_density.bases import AtomMixture
from drl_density.testing import seeded_generator


def small_atoms(num_features):
    """Three components with two cells in the first column and, in two dimensions, one in the second.

    On grids of spacing 0.06 or 0.02 the ends are halfway between points, so that a sum over points errs to second order.
    """
    columns = torch.tensor([0, 0, 1][: num_features + 1])
    edges = torch.tensor([[-0.69, -0.27, 0.27], [1.23, 1.29, 1.41], [0.45, 0.51, 0.63]])[: num_features + 1]
    generator = seeded_generator(0)
    shares = torch.randn(3, len(columns) + num_features, generator=generator)
    means = torch.randn(3, num_features, generator=generator)
    variances = 0.3 + torch.rand(3, num_features, generator=generator)
    return AtomMixture(torch.tensor([0.5, 0.3, 0.2]).log(), shares, means, variances, columns, edges)
