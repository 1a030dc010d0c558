"""Compositions: bounds, tails and state of the whole from those of the parts."""

import math

import pytest
import torch
from torch.distributions.transforms import ComposeTransform, ExpTransform

from drl_density.transforms import (
    Affine,
    Composed,
    Logit,
    MarginalGaussianization,
    transform_from_state,
)
from tests.transforms.cases import composed, gaussian, inside


def test_it_agrees_with_torchs_composition():
    transform, x = composed(), inside()
    torchs = ComposeTransform(list(transform.parts))
    u = transform(x)
    assert torch.equal(u, torchs(x))
    assert torch.equal(transform.inv(u), torchs.inv(u))
    assert torch.equal(transform.log_abs_det_jacobian(x, u), torchs.log_abs_det_jacobian(x, u))


@pytest.mark.parametrize("factor", [2.0, -2.0])
def test_bounds_behind_a_shift_are_pulled_back_through_it(factor):
    """u = logit of 1 + factor x in (0, 3): x in (-1/2, 1), or mirrored in (-1, 1/2)."""
    box = Composed([Affine(1.0, factor), Logit(0.0, 3.0)]).bounds
    assert (float(box.lower), float(box.upper)) == ((-0.5, 1.0) if factor > 0 else (-1.0, 0.5))


def test_bounds_of_three_parts():
    """logit(logit(x) / 2) is finite where logit(x) / 2 lies in (-1, 1), that is x in (1 / (1 + e^2), 1 / (1 + e^-2))."""
    transform = Composed([Logit(0.0, 1.0), Affine(0.0, 0.5), Logit(-1.0, 1.0)])
    expected = torch.sigmoid(torch.tensor([-2.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(torch.stack(tuple(transform.bounds)).flatten(), expected, rtol=1e-12, atol=0)
    nested = Composed([Composed(transform.parts[:2]), transform.parts[2]])
    assert torch.equal(nested.bounds.upper, transform.bounds.upper)


def test_a_half_bounded_box_keeps_the_other_end_of_the_first_part():
    fitted = gaussian(is_bounded=True)
    transform = Composed([fitted, Affine(0.0, 2.0)])
    assert torch.equal(transform.bounds.lower, fitted.bounds.lower)
    assert torch.equal(transform.bounds.upper, fitted.bounds.upper)


def test_tail_scales_are_carried_through_the_parts_after():
    fitted = gaussian(is_bounded=True)
    own = fitted.tail_scale
    assert own[:2].tolist() == [0.0, 0.0]
    assert bool((own[2:] > 0).all())
    torch.testing.assert_close(Composed([fitted, Affine(1.0, 2.0)]).tail_scale, own / 4, rtol=1e-12, atol=0)
    assert float(composed().tail_scale.amax()) == 0.0
    assert Composed([Affine(0.0, 1.0), fitted]).tail_scale.tolist() == [math.inf] * 4
    carried = Composed([fitted, Logit(-9.0, 9.0)]).tail_scale
    assert carried.tolist() == [0.0, 0.0, math.inf, math.inf]
    inner = Composed([Affine(0.0, 2.0), Affine(0.0, 3.0)])
    torch.testing.assert_close(inner.carry_tail(own), own / 36, rtol=1e-12, atol=0)


def test_the_tail_scale_is_the_growth_of_the_jacobian():
    """Far out log |du/dx| - s u^2 / 2 grows slower than u^2: one column near a bound, log-normal by construction."""
    fitted = gaussian(is_bounded=True)
    for transform, reach in ((fitted, 1), (Composed([fitted, Affine(0.3, 2.0)]), 2)):
        u = torch.zeros(1, 4, dtype=torch.float64)
        slopes = []
        for depth in (10.0 * reach, 20.0 * reach):
            u[:, 2] = -depth
            slopes.append(float(transform.column_log_jacobian(transform.inv(u))[0, 2]))
        growth = (slopes[1] - slopes[0]) / (150.0 * reach**2)
        # What is left is of order log(u) / u^2 and, for the shift, 1 / u: a few per cent at depth 60.
        assert growth == pytest.approx(float(transform.tail_scale[2]), rel=0.05)


def test_states_nest():
    transform = Composed([composed(), Affine(torch.zeros(4), torch.full((4,), 2.0))])
    again = transform_from_state(*transform.to_state())
    assert torch.equal(again(inside()), transform(inside()))
    assert isinstance(again.parts[0], Composed)


def test_what_is_no_transform_of_this_package_is_refused():
    with pytest.raises(TypeError, match="this package.*ExpTransform"):
        Composed([ExpTransform()])
    with pytest.raises(ValueError, match="at least one"):
        Composed([])


def test_single_columns_keep_the_kinds_of_the_parts():
    one = Composed([gaussian(), Affine(torch.zeros(4), torch.ones(4))]).single_column(3)
    assert [type(part) for part in one.parts] == [MarginalGaussianization, Affine]
