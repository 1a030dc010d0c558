"""Products in rotated axes."""

import torch

from drl_density.partition_function.target_bases.product import ProductBase
from drl_density.partition_function.target_bases.rotated import RotatedBase
from drl_density.testing import assert_z, seeded_generator


def test_rotated_product_is_one_normalised_density():
    """E_b[1 / b] over a box is its volume, and draws have the product's coordinates."""
    two = torch.tensor([[0.4, 0.5], [0.6, 0.5]]).double()
    product = ProductBase(two, 3 * two - 1.5, 0.5 + two)
    center, whiten = torch.tensor([1.0, -2.0]).double(), torch.tensor([[1.0, 0.5], [-0.3, 2.0]]).double()
    base = RotatedBase(product, center, whiten, two)
    x = base.draw(40_000, seeded_generator(0))
    inside = ((x - center).abs() < 0.5).all(1).double()
    assert_z(inside * (-base.log_prob(x)).exp(), 1.0)
    assert_z(((x - center) @ whiten)[:, 0], float((product.weights * product.means).sum(0)[0]))
