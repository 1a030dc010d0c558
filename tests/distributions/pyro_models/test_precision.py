"""Models written in float32, evaluated in float64."""

import pytest
import torch

from drl_density.distributions.pyro_models.precision import Promotion, double_by_default, in_double, tensors_in

SINGLE = torch.full((3,), 0.1, dtype=torch.float32)
DOUBLE = torch.tensor(0.1, dtype=torch.float64)


def test_mixed_operations_are_carried_out_in_float64():
    assert (SINGLE * DOUBLE).dtype == torch.float32  # torch follows the vector
    with Promotion() as promotion:
        product = SINGLE * DOUBLE
        matrix = torch.eye(3, dtype=torch.float32) @ torch.ones(3, dtype=torch.float64)
        listed = torch.stack([SINGLE[0], DOUBLE])
        alone = SINGLE * 2
    assert (product.dtype, matrix.dtype, listed.dtype, alone.dtype) == (torch.float64,) * 3 + (torch.float32,)
    assert torch.equal(product, SINGLE.double() * DOUBLE)
    assert promotion.count == 3


def test_what_writes_into_a_tensor_or_names_a_type_is_left_alone():
    with Promotion():
        target = torch.zeros(2, dtype=torch.float32)
        target[0] = DOUBLE
        target.add_(DOUBLE)
        assert DOUBLE.to(SINGLE).dtype == torch.float32
    assert target.dtype == torch.float32
    torch.testing.assert_close(target, torch.tensor([0.2, 0.1]))


def test_promotion_works_inside_vectorised_maps():
    def row(u):
        with Promotion():
            return (SINGLE * u).sum()

    found = torch.vmap(row)(torch.ones(4, dtype=torch.float64))
    assert torch.equal(found, SINGLE.double().sum().expand(4))


def test_new_tensors_are_float64_inside_the_block_alone():
    def fails():
        with double_by_default():
            assert torch.zeros(1).dtype == torch.float64
            raise RuntimeError

    before = torch.get_default_dtype()
    with pytest.raises(RuntimeError):
        fails()
    assert torch.get_default_dtype() == before


def test_nested_arguments_are_cast_and_others_kept():
    labels, other = torch.ones(2).long(), object()
    found = in_double(([SINGLE, labels], {"x": (SINGLE.half(), other)}, 3))
    assert found[0][0].dtype == found[1]["x"][0].dtype == torch.float64
    assert found[0][1] is labels
    assert found[1]["x"][1] is other
    assert len(tensors_in(found)) == 3
