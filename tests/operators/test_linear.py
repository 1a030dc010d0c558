"""Operators on real images and vectors: adjoints, closed forms, refusals."""

import pytest
import torch

from drl_density.operators import (
    Blur,
    Downsample,
    Mask,
    MatrixOperator,
    adjoint_gap,
    check_operator,
)
from tests.operators.arrays import normal

OPERATORS = {
    "mask": (Mask(normal(8, 12) > 0), (8, 12), False),
    "matrix": (MatrixOperator(normal(5, 7)), (7,), False),
    "complex matrix": (MatrixOperator(normal(5, 7, is_complex=True)), (7,), True),
    "blur": (Blur(normal(3, 5)), (8, 12), False),
    "downsample": (Downsample(4), (8, 12), False),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoints(name):
    operator, shape, is_complex = OPERATORS[name]
    x = normal(3, *shape, is_complex=is_complex)
    measured = operator.forward(x)
    y = normal(*measured.shape, is_complex=is_complex) + 0 * measured
    assert adjoint_gap(operator, x, y) < 1e-10


def test_a_complex_matrix_keeps_the_imaginary_part_of_measurements_of_real_points():
    matrix, x = normal(5, 7, is_complex=True), normal(3, 7)
    found = MatrixOperator(matrix).forward(x)
    assert torch.equal(found, torch.complex(x @ matrix.real.T, x @ matrix.imag.T))
    assert MatrixOperator(matrix).forward(x.float()).dtype == torch.complex64


def test_blur_is_a_circular_convolution():
    kernel = torch.zeros(3, 3, dtype=torch.float64)
    kernel[0, 1] = 1.0
    x = normal(1, 8, 12)
    torch.testing.assert_close(Blur(kernel).forward(x), x.roll(-1, 1))


def test_a_mask_projects_onto_its_measurement():
    operator = Mask(torch.tensor([[True, False], [False, True]]))
    x, y = normal(3, 2, 2), normal(3, 2)
    found = operator.project(x, y)
    assert torch.equal(operator.forward(found), y)
    assert torch.equal(found[:, 0, 1], x[:, 0, 1])
    assert torch.equal(operator.adjoint(y)[:, 1, 0], torch.zeros(3).double())


def test_a_wrong_adjoint_shows():
    class Transposed(MatrixOperator):
        def adjoint(self, y):
            return y @ self.matrix

    matrix, x, y = normal(5, 7, is_complex=True), normal(3, 7, is_complex=True), normal(3, 5, is_complex=True)
    assert adjoint_gap(MatrixOperator(matrix), x, y) < 1e-10
    assert adjoint_gap(Transposed(matrix), x, y) > 1e-2


def test_what_is_no_operator_is_refused():
    check_operator(Downsample(2))
    with pytest.raises(ValueError, match=r"forward\(x\) and adjoint\(y\), Linear lacks adjoint"):
        check_operator(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="int lacks forward and adjoint"):
        check_operator(3)


WRONG = {
    "nothing observed": (lambda: Mask(torch.zeros(3, dtype=torch.bool)), "at least one entry"),
    "even kernel": (lambda: Blur(torch.ones(2, 3)), "odd sizes"),
    "sizes": (lambda: Downsample(5).forward(torch.zeros(1, 8, 12)), "not multiples"),
    "masked points": (lambda: Mask(torch.tensor([True, False])).forward(torch.zeros(1, 3)), "points of shape"),
    "masked values": (lambda: Mask(torch.tensor([True, False])).adjoint(torch.zeros(1, 2)), "measurements of shape"),
    "matrix": (lambda: MatrixOperator(torch.zeros(2, 3)).forward(torch.zeros(4, 2)), "points of shape"),
    "list": (lambda: Mask([True, False]), "boolean tensor, got list"),
    "numbers": (lambda: Mask(torch.ones(3)), "boolean tensor, got one of torch.float32"),
    "vector": (lambda: MatrixOperator(torch.zeros(3)), r"a matrix \(m, d\) of finite entries"),
    "missing entries": (lambda: MatrixOperator(torch.full((2, 3), torch.nan)), r"a matrix \(m, d\) of finite entries"),
    "no factor": (lambda: Downsample(0), "factor must be a positive integer, got 0"),
    "half a factor": (lambda: Downsample(2.5), "factor must be a positive integer, got 2.5"),
    "channels": (lambda: Downsample(2).forward(torch.zeros(1, 3, 8, 8)), "leave out the dimension of channels"),
    "small image": (lambda: Blur(torch.ones(3, 3)).forward(torch.zeros(1, 2, 8)), "at least as large"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_operators(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()
