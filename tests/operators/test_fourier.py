"""Undersampled Fourier measurements: adjoints, projections, coils and sampling masks."""

import math

import pytest
import torch

from drl_density.errors import NumericalError
from drl_density.operators import (
    Coils,
    ComplexPairs,
    MaskedFourier,
    adjoint_gap,
    center_mask,
    root_sum_of_squares,
    shepp_logan,
    smooth_maps,
)
from drl_density.operators.fourier import to_frequency, to_image
from tests.operators.arrays import FOURIER, MASK, normal

OPERATORS = {
    "fourier": (FOURIER, (8, 12), True),
    "coils": (Coils(normal(3, 8, 12, is_complex=True), FOURIER), (8, 12), True),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoints(name):
    operator, shape, is_complex = OPERATORS[name]
    x = normal(3, *shape, is_complex=is_complex)
    measured = operator.forward(x)
    y = normal(*measured.shape, is_complex=is_complex) + 0 * measured
    assert adjoint_gap(operator, x, y) < 1e-10


def test_complex_pairs_have_a_real_adjoint():
    operator = ComplexPairs(FOURIER)
    x, y = normal(2, 2, 8, 12), normal(2, 8, 12, is_complex=True)
    first = (operator.forward(x).conj() * y).sum().real
    torch.testing.assert_close(first, (x * operator.adjoint(y)).sum())


def test_projection_is_idempotent_and_keeps_the_measurement():
    x, y = normal(2, 8, 12, is_complex=True), FOURIER.forward(normal(1, 8, 12, is_complex=True))[0]
    once = FOURIER.project(x, y)
    torch.testing.assert_close(FOURIER.project(once, y), once)
    torch.testing.assert_close(FOURIER.forward(once), y.expand(2, -1, -1))
    full = MaskedFourier(torch.ones(8, 12, dtype=torch.bool))
    torch.testing.assert_close(full.project(x, full.forward(x)), x)


@pytest.mark.parametrize("acceleration", [2, 6])
def test_coil_projection_is_the_nearest_image_that_measures_the_data(acceleration):
    """Three coils: at 2 they determine the image, at 6 they do not, and the change lies in the range of A*."""
    mask = center_mask(8, 12, acceleration=acceleration, generator=torch.Generator().manual_seed(0))
    coils = Coils(smooth_maps(3, 12)[:, :8].to(torch.complex128), MaskedFourier(mask))
    truth, x = normal(1, 8, 12, is_complex=True), normal(2, 8, 12, is_complex=True)
    y = coils.forward(truth)[0]
    found = coils.project(x, y, tolerance=1e-11)
    # Conjugate gradients to 1e-11 of the normal equations; the least singular value of A is above 5e-4, its square 2.5e-7.
    torch.testing.assert_close(coils.forward(found), y.expand(2, -1, -1, -1), rtol=0, atol=1e-4)
    torch.testing.assert_close(coils.project(found, y, tolerance=1e-11), found, rtol=0, atol=1e-4)
    if acceleration == 6:
        other = coils.project(x + normal(1, 8, 12, is_complex=True), y, tolerance=1e-11)
        assert bool(((found - x).abs().square().sum((1, 2)) <= (other - x).abs().square().sum((1, 2))).all())
        assert float((found - truth).abs().max()) > 0.1
    with pytest.raises(NumericalError, match="has not converged in 1 steps"):
        coils.project(x, y, max_steps=1)


def test_maps_are_smooth_and_of_unit_length():
    maps = smooth_maps(4, 16)
    torch.testing.assert_close(root_sum_of_squares(maps), torch.ones(16, 16))
    assert float((maps[:, 1:] - maps[:, :-1]).abs().max()) < 0.2


def test_fourier_is_orthonormal():
    full = MaskedFourier(torch.ones(8, 12, dtype=torch.bool))
    x = normal(1, 8, 12, is_complex=True)
    torch.testing.assert_close(full.adjoint(full.forward(x)), x)
    assert float(full.forward(x).abs().square().sum()) == pytest.approx(float(x.abs().square().sum()))


@pytest.mark.parametrize(("width", "share"), [(16, 0.05), (16, 0.12), (15, 0.05), (12, 0.2)])
def test_the_centre_of_a_mask_holds_the_constant(width, share):
    mask = center_mask(4, width, acceleration=3, center_share=share, generator=torch.Generator().manual_seed(0))
    constant = MaskedFourier(torch.ones(4, width, dtype=torch.bool)).forward(
        torch.ones(1, 4, width).to(torch.complex64)
    )
    assert bool(mask[constant[0].abs() > 1e-3].all())


def test_masks_and_phantom():
    assert int(MASK[0].sum()) == 4
    assert bool(MASK[:, 5:7].any(1).all())
    phantom = shepp_logan(64)
    assert phantom.shape == (64, 64)
    assert float(phantom.max()) == pytest.approx(1.0, abs=0.05)
    assert math.isclose(float(phantom[0, 0]), 0.0)
    coils = Coils(torch.ones(2, 8, 12, dtype=torch.complex128), FOURIER)
    image = normal(1, 8, 12, is_complex=True)
    expected = 2**0.5 * FOURIER.adjoint(FOURIER.forward(image)).abs()
    torch.testing.assert_close(coils.root_sum_of_squares(coils.forward(image)), expected)


def test_a_plane_wave_has_one_frequency():
    """exp(2 pi i (2 y / h - 3 x / w)) stands at (h / 2 + 2, w / 2 - 3) of the centred transform, with weight sqrt(h w)."""
    h, w = 8, 12
    y, x = torch.meshgrid(torch.arange(h) - h // 2, torch.arange(w) - w // 2, indexing="ij")
    wave = torch.exp(2j * math.pi * (2 * y / h - 3 * x / w)).to(torch.complex128)
    found = to_frequency(wave)
    expected = torch.zeros(h, w, dtype=torch.complex128)
    expected[h // 2 + 2, w // 2 - 3] = (h * w) ** 0.5
    # The wave itself was made in single precision.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(to_image(found), wave, rtol=1e-10, atol=1e-10)


WRONG = {
    "nothing measured": (lambda: MaskedFourier(torch.zeros(2, 2, dtype=torch.bool)), "measures at least one entry"),
    "broadcast image": (lambda: FOURIER.forward(torch.zeros(1, 1, 12).cfloat()), "images of shape"),
    "broadcast coils": (
        lambda: Coils(torch.ones(2, 8, 12).cfloat(), FOURIER).adjoint(torch.zeros(1, 1, 8, 12).cfloat()),
        "frequencies of shape",
    ),
    "acceleration": (lambda: center_mask(8, 12, acceleration=4, center_share=0.5), "fewer than the centre"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_operators(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()
