"""One small member of every kind of base, in one and two dimensions, for the batteries over the contract."""

import torch

from drl_density.bases import (
    AutoregressiveFlow,
    AutoregressiveFlowSettings,
    AutoregressivePixels,
    BlendedBase,
    FactorAnalysers,
    LayeredBase,
    NoisedGaussianMixture,
    PixelSettings,
    QuadraticBase,
)
from drl_density.testing import seeded_generator
from tests.bases.atoms.small import small_atoms

WEIGHTS = torch.tensor([0.7, 0.3])
MEANS = {1: torch.tensor([[-0.8], [1.1]]), 2: torch.tensor([[-0.8, 0.5], [1.1, -0.3]])}
FACTORS = {
    1: torch.tensor([[[0.5]], [[0.9]]]),
    2: torch.tensor([[[0.6, 0.0], [0.4, 0.5]], [[0.4, 0.0], [-0.3, 0.7]]]),
}
VARIANCES = {1: torch.tensor([[0.3], [0.8]]), 2: torch.tensor([[0.3, 0.9], [0.8, 0.2]])}


def bent_flow(num_features, **sizes):
    """A flow with weights far from those of a new one."""
    given = {"num_transforms": 3, "width": 16, **sizes}
    flow = AutoregressiveFlow(AutoregressiveFlowSettings(num_features, **given), generator=seeded_generator(0))
    for index, weight in enumerate(flow.weights()):
        weight.add_(0.2 * torch.randn(weight.shape, generator=seeded_generator(index)))
    return flow


def dependent_pixels(num_features, **sizes):
    """Pixels in one row with weights far from those of a new density; their cells end at odd multiples of 0.03.

    On grids of spacing 0.06 or 0.02 these ends are halfway between points, so that a sum over points errs to second order.
    """
    ends = torch.tensor([-0.69, 0.27, 1.23]).double()
    shares = torch.special.ndtr(torch.cat([ends, ends.new_tensor([torch.inf])])).diff(prepend=torch.zeros(1).double())
    settings = PixelSettings((1, 1, num_features), num_cells=4, width=16, rank=8, **sizes)
    base = AutoregressivePixels(settings, shares.log().expand(num_features, -1), generator=seeded_generator(0))
    for index, weight in enumerate(base.weights()):
        weight.add_(0.5 * torch.randn(weight.shape, generator=seeded_generator(index)))
    return base


def members(num_features):
    """Bases with noised forms over vectors of ``num_features``, by name; both parts of the layered one are equal."""
    means, factors, variances = MEANS[num_features], FACTORS[num_features], VARIANCES[num_features]
    return {
        "full mixture": NoisedGaussianMixture(WEIGHTS, means, factors @ factors.mT),
        "diagonal mixture": NoisedGaussianMixture(WEIGHTS, means, variances),
        "factor analysers": FactorAnalysers(WEIGHTS, means, factors[..., :1], variances),
        "quadratic": QuadraticBase(num_features, 1.7),
        "layered": LayeredBase(*(NoisedGaussianMixture(WEIGHTS, means, variances) for _ in range(2)), 10.0),
    }


def all_members(num_features):
    """The same, and bases without noised forms."""
    mixture, flow = members(num_features)["full mixture"], bent_flow(num_features)
    return {
        **members(num_features),
        "spline flow": flow,
        "affine flow": bent_flow(num_features, elementwise="affine"),
        "flow of both": bent_flow(num_features, elementwise="both"),
        "autoregressive pixels": dependent_pixels(num_features),
        "atoms": small_atoms(num_features),
        "blend": BlendedBase([mixture, flow], torch.tensor([0.3, 0.7])),
    }


NAMES = tuple(members(1))
ALL_NAMES = tuple(all_members(1))
