"""Flows: normalised, exact draws, order of the columns, rows far out, precision; the contract has a battery."""

import math

import pytest
import torch

from drl_density.bases import AutoregressiveFlow, AutoregressiveFlowSettings, base_from_state
from drl_density.bases.flows.autoregressive import CHUNK, AutoregressiveTransform
from drl_density.testing import assert_z, seeded_generator
from tests.bases.members import bent_flow
from tests.processes import run


@pytest.mark.parametrize("kind", ["spline", "affine", "both"])
def test_a_new_flow_is_the_standard_normal_density(kind):
    flow = AutoregressiveFlow(AutoregressiveFlowSettings(3, elementwise=kind))
    x = 4 * torch.randn(50, 3, generator=seeded_generator(0)).double()
    truth = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    torch.testing.assert_close(flow.log_prob(x), truth, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("num_features", "settings"),
    [
        (1, {}),
        (2, {}),
        (5, {"width": 3}),
        (6, {"num_transforms": 1}),
        (1, {"elementwise": "affine"}),
        (4, {"elementwise": "affine"}),
        (4, {"elementwise": "both"}),
    ],
)
def test_draws_are_the_inverse_of_the_density(num_features, settings):
    """The noise of a draw comes back, column by column, also where the units are fewer than the columns."""
    flow = bent_flow(num_features, **settings)
    drawn = flow.sample(500, generator=seeded_generator(1)).double()
    value = drawn.T
    for transform in flow.transforms:
        value, _ = transform(value)
    noise = torch.randn(500, num_features, generator=seeded_generator(1))
    # Draws are rounded to float32, and slopes reach some tens.
    torch.testing.assert_close(value.T, noise.double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["spline", "affine", "both"])
def test_log_slopes_are_the_jacobian(kind):
    flow = bent_flow(4, elementwise=kind)
    x = torch.randn(4, 1, generator=seeded_generator(2), dtype=torch.float64)
    for transform in flow.transforms:
        matrix = torch.autograd.functional.jacobian(lambda v, t=transform: t(v[:, None])[0][:, 0], x[:, 0])
        triangle = matrix.flip(0, 1) if transform.is_reversed else matrix
        assert torch.equal(triangle, triangle.tril())  # no column depends on a later one
        assert float(matrix.tril(-1).abs().max() + matrix.triu(1).abs().max()) > 1e-3  # but on earlier ones
        x, log_slope = transform(x)
        torch.testing.assert_close(log_slope.sum(), torch.linalg.slogdet(matrix).logabsdet, rtol=0, atol=1e-9)


def test_rows_far_out_have_the_tail_and_finite_gradients():
    flow, ray = bent_flow(3), torch.tensor([0.6, -0.8, 1e-3])
    x = (torch.tensor([10.0, 1e3, 1e10, 1e18])[:, None] * ray).requires_grad_()
    values = flow.log_prob(x)
    assert bool(values.isfinite().all())
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert bool(gradient.isfinite().all())
    # Each of the 3 transformations moves a column by 10 at most; slopes are bounded.
    assert float(values[1].detach()) == pytest.approx(-0.5 * 1e6, rel=0.07)
    infinite = torch.full((2, 3), math.inf)
    infinite[1, 1:] = 0.0
    assert torch.equal(flow.log_prob(infinite), torch.full((2,), -math.inf))


def test_missing_values_stay_visible():
    assert bool(bent_flow(2).log_prob(torch.tensor([[math.nan, 0.0]])).isnan())


def test_float32_is_close_to_float64():
    flow, x = bent_flow(6), torch.randn(200, 6, generator=seeded_generator(3))
    # Slopes up to 1e3 in the middle of float32 places: errors of 1e-6 times the slope.
    torch.testing.assert_close(flow.log_prob(x).double(), flow.log_prob(x.double()), rtol=0, atol=5e-3)
    assert flow.log_prob(x).dtype == torch.float32


def test_chunks_change_nothing():
    flow, x = bent_flow(2), torch.randn(2 * CHUNK + 3, 2, generator=seeded_generator(4), dtype=torch.float64)
    parts = torch.cat([flow.log_prob(part) for part in x.split(700)])
    torch.testing.assert_close(flow.log_prob(x), parts, rtol=0, atol=1e-12)
    assert flow.sample(2 * CHUNK + 3).shape == (2 * CHUNK + 3, 2)
    assert flow.log_prob(x[:0]).shape == (0,)
    assert flow.sample(0).shape == (0, 2)


def test_dropout_is_drawn_from_the_generator_and_has_no_effect_at_zero():
    flow, x = bent_flow(4), torch.randn(20, 4, generator=seeded_generator(5))
    one, two, other = (flow.log_prob_under_dropout(x, 0.5, generator=seeded_generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    # The splines of training take another way to the same numbers.
    torch.testing.assert_close(flow.log_prob_under_dropout(x, 0.0), flow.log_prob(x))


def test_dropout_keeps_the_mean_of_the_hidden_units():
    settings = AutoregressiveFlowSettings(2, width=4000)
    layer = AutoregressiveTransform(settings, is_reversed=False, generator=seeded_generator(6))
    seen = []
    flow = AutoregressiveFlow(AutoregressiveFlowSettings(2, num_transforms=1))
    flow.transforms[0].forward = lambda x, drop, is_training: (seen.append(drop(torch.ones(4000, 50))), layer(x))[1]
    flow.log_prob_under_dropout(torch.zeros(50, 2), 0.25, generator=seeded_generator(7))
    assert_z(seen[0].double().flatten(), 1.0)
    assert seen[0].unique().tolist() == [0.0, pytest.approx(4 / 3)]


def test_nothing_is_trainable_and_the_state_holds_the_weights_alone():
    flow = bent_flow(3)
    assert list(flow.parameters()) == []
    tensors = {f"{kind}_{index}" for kind in ("weight", "bias") for index in range(3)}
    assert {name.split(".")[-1] for name in flow.state_dict()} == tensors
    assert flow.to_state() == {
        "kind": "autoregressive_flow",
        "num_features": 3,
        "num_transforms": 3,
        "num_bins": 8,
        "width": 16,
        "elementwise": "spline",
    }


def test_building_and_reading_change_no_global_state():
    before = torch.get_rng_state()
    flow = bent_flow(3)
    flow.log_prob_under_dropout(torch.zeros(2, 3), 0.5, generator=seeded_generator(0))
    flow.sample(2, generator=seeded_generator(0))
    base_from_state(flow.to_state())
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_seeds_give_equal_bits_in_another_process():
    code = """
import torch
from tests.bases.members import bent_flow
print(bent_flow(3).sample(2, generator=torch.Generator().manual_seed(1)).tolist())
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(bent_flow(3).sample(2, generator=seeded_generator(1)).tolist())


def test_the_module_moves_with_its_draws():
    flow = bent_flow(2).double()
    assert flow.sample(3).dtype == torch.float64


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="num_bins.*must be at least 1"):
        AutoregressiveFlowSettings(2, num_bins=0)
    with pytest.raises(ValueError, match="elementwise.*spline.*affine.*both"):
        AutoregressiveFlowSettings(2, elementwise="cubic")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", ["affine", "both"])
def test_affine_maps_fall_at_least_as_fast_as_their_covariance_says(kind):
    flow, ray = bent_flow(3, elementwise=kind), torch.tensor([0.6, -0.8, 1e-3], dtype=torch.float64)
    (covariance,) = flow.covariances()
    x = torch.tensor([1e6, 1e10])[:, None] * ray
    bound = -0.5 * (x @ covariance.inverse() * x).sum(1)
    values = flow.log_prob(x)
    assert bool(values.isfinite().all())
    assert bool((values <= bound).all())
