"""Every transform under one contract: round trip, Jacobian, bounds, state."""

import copy
import math
import pickle

import pytest
import torch

from drl_density.errors import DataError
from drl_density.transforms import Affine, Bounds, Histogram, logit, transform_from_state, whiten
from tests.transforms.cases import COLUMNWISE, TRANSFORMS, fixture_of, rows

pair = fixture_of(TRANSFORMS)
columnwise = fixture_of(COLUMNWISE)


def test_round_trip(pair):
    transform, x = pair
    # Inverting a logit at 0.999 loses 1 / (x (1 - x)) digits: 1e-9 relative is far above 1e-16 * 1e5.
    torch.testing.assert_close(transform.inv(transform(x)), x, rtol=1e-9, atol=1e-9)


def test_jacobian_is_autograds(pair):
    transform, x = pair
    for row in x[:5]:
        matrix = torch.autograd.functional.jacobian(transform, row)
        expected = torch.linalg.slogdet(matrix).logabsdet
        torch.testing.assert_close(transform.log_abs_det_jacobian(row, transform(row)), expected, rtol=1e-8, atol=1e-8)


def test_image_and_jacobian_of_one_pass_are_those_of_two(pair):
    transform, x = pair
    u, log_jacobian = transform.with_log_jacobian(x)
    torch.testing.assert_close(u, transform(x), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(log_jacobian, transform.log_abs_det_jacobian(x, u), rtol=1e-12, atol=1e-12)
    assert u.is_contiguous()
    assert u.dtype == x.dtype


def test_images_do_not_depend_on_rows_beside_them(columnwise):
    """A value that is missing, or far out, changes nothing of the other columns and rows."""
    transform, x = columnwise
    u, slopes = transform.with_column_log_jacobian(x[:9])
    torch.testing.assert_close(slopes.sum(1), transform.with_log_jacobian(x[:9])[1], rtol=1e-12, atol=1e-12)
    changed = x[:9].clone()
    changed[4, 2] = math.nan
    found = transform.with_column_log_jacobian(changed)
    kept = ~changed.isnan()
    for one, other in zip(found, (u, slopes), strict=True):
        torch.testing.assert_close(one[kept], other[kept], rtol=1e-13, atol=1e-13)
        assert bool((one[~kept].isnan() | (one == other)[~kept]).all())


def test_vmap_of_gradients(pair):
    transform, x = pair
    values = torch.func.vmap(torch.func.grad(lambda row: transform(row).sum()))(x[:5])
    assert values.shape == x[:5].shape
    assert bool(values.isfinite().all())


def test_copies_and_states_are_the_same_map(pair):
    transform, x = pair
    others = (
        transform_from_state(*transform.to_state()),
        copy.deepcopy(transform),
        pickle.loads(pickle.dumps(transform)),
    )
    for other in others:
        assert torch.equal(other(x), transform(x))
        assert torch.equal(other.bounds.lower, transform.bounds.lower)
        assert torch.equal(other.bounds.upper, transform.bounds.upper)


def test_dtype_follows_the_input(pair):
    transform, x = pair
    u = transform(x)
    x = x[(u - u.mean(0)).abs().amax(1) < 3].float()
    u = transform(x)
    assert len(x) > 100
    assert transform.log_abs_det_jacobian(x, u).shape == x.shape[:1]
    assert bool(u.isfinite().all())


def test_rows_of_the_domain_lie_inside_the_bounds_and_map_to_finite_values(pair):
    transform, x = pair
    assert bool(transform.bounds.contains(x).all())
    assert bool(transform(x).isfinite().all())


def test_beyond_a_bound_no_value_is_finite(columnwise):
    """At each finite end, and a little outside it, the map gives no finite value; a little inside, it does."""
    transform, x = columnwise
    lower, upper = transform.bounds.expand(4)
    for end, outwards in ((lower, -1.0), (upper, 1.0)):
        for column in end.isfinite().nonzero().flatten().tolist():
            row = x[0].clone()
            for step, is_finite in ((-1e-6, True), (0.0, False), (1e-6, False)):
                row[column] = end[column] + outwards * step
                assert bool(transform(row).isfinite().all()) is is_finite
                assert bool(transform.bounds.contains(row)) is is_finite


def test_columns_jacobians_are_those_of_autograd_and_add_up(columnwise):
    transform, x = columnwise
    found = transform.column_log_jacobian(x[:5])
    for row, value in zip(x[:5], found, strict=True):
        matrix = torch.autograd.functional.jacobian(transform, row)
        torch.testing.assert_close(value, matrix.diagonal().abs().log(), rtol=1e-8, atol=1e-8)
    total = transform.log_abs_det_jacobian(x[:5], transform(x[:5]))
    torch.testing.assert_close(found.sum(1), total, rtol=1e-12, atol=1e-12)


def test_a_single_column_is_that_column_of_the_whole(columnwise):
    transform, x = columnwise
    for index in range(4):
        one = transform.single_column(index)
        torch.testing.assert_close(one(x[:9, index : index + 1])[:, 0], transform(x[:9])[:, index], rtol=0, atol=0)
        lower, upper = transform.bounds.expand(4).select(index)
        assert (float(one.bounds.expand(1).lower), float(one.bounds.expand(1).upper)) == (float(lower), float(upper))


def test_a_box_pulled_back_maps_onto_the_box(columnwise):
    transform, _ = columnwise
    image = Bounds(torch.tensor([-1.0, -0.5, 0.1, -2.0]).double(), torch.tensor([1.0, 0.5, 0.2, 2.0]).double())
    box = transform.pull_back(image)
    ends = torch.stack([transform(box.lower), transform(box.upper)])
    torch.testing.assert_close(ends.amin(0), image.lower, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ends.amax(0), image.upper, rtol=1e-8, atol=1e-8)
    whole = transform.pull_back(Bounds.unbounded(torch.zeros(4)))
    assert torch.equal(whole.lower.expand(4), transform.bounds.lower.expand(4))
    assert torch.equal(whole.upper.expand(4), transform.bounds.upper.expand(4))


def test_a_transform_that_mixes_columns_has_no_single_ones():
    transform = whiten(rows())
    with pytest.raises(DataError, match="Whitening mixes columns.*gaussianize"):
        transform.column_log_jacobian(rows())
    with pytest.raises(DataError, match="column 2 has no map of its own"):
        transform.single_column(2)
    with pytest.raises(DataError, match="mixes columns, so bounds"):
        transform.pull_back(Bounds(torch.zeros(4), torch.ones(4)))
    assert transform.pull_back(transform.bounds).upper.tolist() == [math.inf] * 4


def test_bounds_are_open_and_per_column():
    bounds = Bounds(torch.tensor([0.0, -math.inf]), torch.tensor([1.0, 5.0]))
    rows = torch.tensor([[0.5, -1e9], [0.0, 0.0], [0.5, 5.0], [math.nan, 0.0]])
    assert bounds.contains(rows).tolist() == [True, False, False, False]
    assert bounds.select(torch.tensor([False, True])).upper.tolist() == [5.0]
    assert Bounds(torch.tensor(0.0), torch.tensor(1.0)).select(7).upper == 1.0
    assert bounds.select(0).expand(3).upper.tolist() == [1.0] * 3


def test_cells_follow_the_columns_through_choices_and_affine_maps():
    cells = Histogram(torch.tensor([1.0, 2.0, 5.0]).double(), 1.0, torch.full((3,), 1 / 3).double().log())
    bounds = Bounds(torch.tensor([-math.inf, 0.5]).double(), torch.tensor([math.inf, 5.5]).double(), {1: cells})
    x = torch.tensor([[9.0, 2.0], [9.0, 3.0], [9.0, 5.0]]).double()
    assert bounds.contains(x).tolist() == [True, False, True]
    assert bounds.select(1).contains(x[:, 1:]).tolist() == [True, False, True]
    assert bounds.select(torch.tensor([1, 0])).contains(x.flip(1)).tolist() == [True, False, True]
    assert bounds.select(torch.tensor([True, False])).cells == {}
    others = (cells.rescaled(0.0, 1.0), Histogram(cells.values, 0.5, cells.log_shares), cells.rescaled(1.0, 1.0))
    equal = [bounds == Bounds(*bounds, {1: other}) for other in others]
    assert equal == [True, False, False]
    assert bounds != Bounds(*bounds)
    moved = Affine(1.0, torch.tensor([1.0, -2.0]).double())
    assert moved.pull_back(bounds).contains(moved.inv(x)).tolist() == [True, False, True]
    with pytest.raises(DataError, match="first of several transforms"):
        logit(0.0, 1.0).pull_back(bounds)
    with pytest.raises(DataError, match="mixes columns, so bounds"):
        whiten(rows()).pull_back(bounds)


def test_descriptions_name_the_kind():
    transform, _ = TRANSFORMS["composed"]()
    assert transform.describe() == ["all columns: logit, then affine"]
    assert TRANSFORMS["whiten"]()[0].describe() == ["all columns: whitening"]
