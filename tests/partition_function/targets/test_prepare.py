"""Preparation of whole targets: supports, constants, bases, data, and remarks."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import drl_density as drl
from drl_density.errors import DRLDensityWarning
from drl_density.partition_function.tails.examine import screen_tails
from drl_density.partition_function.tails.report import Integrability
from drl_density.partition_function.targets.prepare import prepare_target
from drl_density.testing import seeded_generator


def quadratic(x):
    return -0.5 * x.square().sum(-1)


def prepared_from(function, dim=2, support=None, **options):
    target = drl.EnergyDistribution.from_log_density(function, (dim,), support=support)
    return prepare_target(target, generator=seeded_generator(0), **options)


def test_values_are_those_of_the_target_less_the_offset():
    prepared = prepared_from(lambda x: quadratic(x) + 1e9)
    rows = prepared.start.draw(4, seeded_generator(1))
    assert prepared.offset == pytest.approx(1e9, abs=1)
    torch.testing.assert_close(prepared.log_density(rows) + (prepared.offset - 1e9), quadratic(rows), atol=1e-6, rtol=0)
    assert prepared.rejections.num_points == 4
    assert prepared.has_gradient
    assert prepared.remarks == ()


def test_base_and_data_move_with_the_support():
    target = dist.Gamma(torch.full((2,), 3.0), 1.0).to_event(1)
    base, data = dist.Exponential(torch.full((2,), 0.2)).to_event(1), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    prepared = prepare_target(target, base=base, data=data, generator=seeded_generator(0))
    torch.testing.assert_close(prepared.coordinates.to_event(prepared.data), data.double())
    rows = prepared.base.draw(2000, seeded_generator(2))
    weights = prepared.log_density(rows) + prepared.offset - prepared.base.log_prob(rows)
    assert float(weights.exp().mean()) == pytest.approx(1, abs=0.2)


def test_wide_targets_and_their_constants_are_rescaled_together():
    prepared = prepared_from(lambda x: quadratic(x / 1e6))
    assert float(prepared.coordinates.unit[0]) > 1e5
    rows = torch.zeros(1, 2).double()
    value = prepared.log_density(rows) + prepared.offset - prepared.coordinates.unit.log().sum()
    assert float(value) == pytest.approx(0, abs=1e-9)


def test_what_a_reader_should_know_is_remarked():
    assert "no gradient" in prepared_from(lambda x: quadratic(x.detach())).remarks[0]
    with pytest.warns(DRLDensityWarning, match="float32 are rounded by 1.2 nats"):
        rounded = prepared_from(lambda x: quadratic(x).float() + 1e7)
    assert rounded.rounding == pytest.approx(1.19, abs=0.01)
    data = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    halves = prepared_from(lambda x: torch.where(x[:, 0] > 0, quadratic(x), -math.inf), data=data)
    assert halves.remarks == ("1 of 2 rows of data have no density and were left out",)
    assert halves.data.shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": torch.zeros(3)}, "expected data of shape"),
        ({"data": torch.full((3, 2), -1.0)}, "no density at any of the 3 rows"),
        ({"base": dist.Normal(torch.zeros(3), 1.0).to_event(1)}, "one event shape"),
        ({"base": dist.Normal(torch.full((2,), -90.0), 1.0).to_event(1)}, "minus infinity at all .*draws of the base"),
        ({"support": constraints.integer_interval(0, 3)}, "discrete"),
    ],
)
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        prepared_from(lambda x: torch.where((x > 0).all(1), quadratic(x), -math.inf), **options)


def test_a_target_behind_a_wall_far_from_the_origin_has_a_first_base():
    """No draw of N(0, I) has three coordinates above 5."""
    target = drl.EnergyDistribution(lambda x: torch.where((x > 5).all(-1), -x.sum(-1), -torch.inf), (3,))
    prepared = prepare_target(target, generator=torch.Generator().manual_seed(0))
    rows = prepared.start.draw(64, torch.Generator().manual_seed(1))
    assert bool(prepared.log_density(rows).isfinite().all())


def test_a_box_of_many_dimensions_has_a_narrower_first_base():
    """One draw of N(0, I) in four million lies in it."""
    prepared = prepared_from(lambda x: torch.where((x.abs() < 1).all(-1), 0.0, -math.inf), 40)
    rows = prepared.start.draw(64, seeded_generator(1))
    assert bool(prepared.log_density(rows).isfinite().all())


def test_the_numbers_of_a_pyro_models_sites_end_too():
    """1 / t over t > 0: in log t, where the model is examined, the square of t overflows at 354, and t vanishes at -745."""

    def model():
        t = pyro.sample("t", dist.HalfCauchy(torch.tensor(1.0).double()))
        pyro.factor("tilt", torch.log1p(t.square()) - t.log())

    prepared = prepare_target(drl.joint_density(model), generator=seeded_generator(0))
    assert prepared.hold is not None
    rows = prepared.start.draw(64, seeded_generator(1)).reshape(2, 32, 1)
    report = screen_tails(prepared.log_density.uncounted(), rows, hold=prepared.hold)
    assert report is not None
    assert report.integrability is Integrability.IMPROPER
    assert prepare_target(dist.Normal(torch.zeros(2), 1.0).to_event(1)).hold is None


def test_numbers_end_where_those_of_the_values_do():
    """A density that rounds its points to float32 takes float64 too, and overflows at exp(88) all the same."""
    support = constraints.independent(constraints.positive, 1)
    prepared = prepared_from(lambda x: -x.float().log().sum(-1), 1, support=support)
    assert prepared.hold is not None
    unit = prepared.coordinates.unit
    assert prepared.hold(torch.tensor([[80.0], [95.0]]).double() / unit).tolist() == [True, False]


def test_a_single_lucky_draw_behind_a_wall_is_no_first_base():
    """With these seeds one of 512 draws of N(0, 1) lies above 4; of further draws perhaps none does."""

    def beyond_four(x):
        return torch.where(x[..., 0] > 4, quadratic(x), -math.inf)

    target = drl.EnergyDistribution.from_log_density(beyond_four, (1,))
    for seed in (2, 27, 42):
        prepared = prepare_target(target, generator=seeded_generator(seed))
        plain = prepared.start.log_prob(prepared.log_density.coordinates.to_flat(torch.tensor([[4.3]]).double()))
        assert float(plain) > -4, seed  # N(0, 1) in the target's own units has -10.2 there
