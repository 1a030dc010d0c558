"""Random arrays and one sampling mask that tests of this room share."""

import torch

from drl_density.operators import MaskedFourier, center_mask


def normal(*shape, is_complex=False):
    generator = torch.Generator().manual_seed(sum(shape))
    dtype = torch.complex128 if is_complex else torch.float64
    return torch.randn(shape, generator=generator, dtype=dtype)


MASK = center_mask(8, 12, acceleration=3, generator=torch.Generator().manual_seed(0))
FOURIER = MaskedFourier(MASK)
