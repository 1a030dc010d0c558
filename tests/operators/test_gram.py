"""Blocks of A* A against the whole matrix, made column by column."""

import pytest
import torch

from drl_density.operators import Coils, ComplexPairs, GramBlocks, Mask, MaskedFourier, smooth_maps
from drl_density.testing import seeded_generator

SIZE = 6
LINES = torch.arange(2 * SIZE * SIZE).reshape(2, SIZE, SIZE).permute(1, 0, 2).reshape(SIZE, -1)


def coils(is_measured):
    """Three coils on pairs of real and imaginary parts."""
    return ComplexPairs(Coils(smooth_maps(3, SIZE), MaskedFourier(is_measured)))


def whole_matrix(operator, event_shape):
    """Real matrix of A, each measurement as real and imaginary parts."""
    units = torch.eye(torch.Size(event_shape).numel(), dtype=torch.float64).reshape(-1, *event_shape)
    return torch.view_as_real(operator.forward(units)).flatten(1).T


def test_lines_of_frequencies_leave_rows_of_the_image_apart():
    mask = torch.tensor([True, False, True, True, False, False]).expand(SIZE, SIZE)
    operator = coils(mask)
    gram, matrix = GramBlocks(operator, (2, SIZE, SIZE), LINES), whole_matrix(operator, (2, SIZE, SIZE))
    x = torch.randn(4, 2 * SIZE * SIZE, generator=seeded_generator(0), dtype=torch.float64)
    # Two Fourier transforms in float64; the sensitivities are exact numbers of float32.
    torch.testing.assert_close(gram(x), x @ matrix.T @ matrix, rtol=0, atol=1e-10)
    assert gram.largest == pytest.approx(float(torch.linalg.eigvalsh(matrix.T @ matrix).max()), abs=1e-10)
    y = operator.forward(x.reshape(-1, 2, SIZE, SIZE))
    torch.testing.assert_close(gram.adjoint(y), gram(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(gram.join(gram.split(x)), x)


def test_what_has_no_such_blocks_is_refused():
    scattered = torch.rand(SIZE, SIZE, generator=seeded_generator(1)) < 0.4
    assert GramBlocks(coils(scattered), (2, SIZE, SIZE)).blocks.shape == (1, 72, 72)
    with pytest.raises(ValueError, match="couples coordinates of different groups"):
        GramBlocks(coils(scattered), (2, SIZE, SIZE), LINES)
    with pytest.raises(ValueError, match="hold each of 72 coordinates once"):
        GramBlocks(coils(scattered), (2, SIZE, SIZE), LINES[:2])

    class Nothing(Mask):
        def forward(self, x):
            return 0 * super().forward(x)

    with pytest.raises(ValueError, match="nothing is measured"):
        GramBlocks(Nothing(torch.tensor([True, False])), (2,))
