"""Random images: seeded, complex, dark outside."""

import torch

from drl_density.datasets.phantoms import ellipse_phantoms
from drl_density.testing import seeded_generator


def test_phantoms_are_seeded_complex_and_dark_outside():
    first, again, other = (ellipse_phantoms(4, 32, generator=seeded_generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (4, 32, 32)
    assert first.is_complex()
    corners = first[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    # The large ellipse ends at 0.9 of the half side; its edge is half a pixel wide.
    assert float(corners.abs().max()) < 1e-2
    assert 0.2 < float(first[:, 8:24, 8:24].abs().mean()) < 1.2
    assert float(first[:, 8:24, 8:24].imag.abs().max()) > 0.05
