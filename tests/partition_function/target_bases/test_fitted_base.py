"""Bases fitted to pilot draws."""

import math

import torch

from drl_density.partition_function.mode_search.components import ComponentBase
from drl_density.partition_function.mode_search.shape import measure_shape
from drl_density.partition_function.target_bases.curved_base import CurvedRegression
from drl_density.partition_function.target_bases.fitted_base import fit_base
from drl_density.partition_function.target_bases.mixture import MixtureBase
from drl_density.partition_function.target_bases.product import ProductBase
from drl_density.partition_function.target_bases.rotated import RotatedBase
from drl_density.partition_function.target_bases.scale_base import ScaleBase
from drl_density.partition_function.target_bases.student import StudentBase, StudentProduct
from drl_density.testing import seeded_generator
from drl_density.weights import weight_ess


def test_the_best_kind_is_kept():
    generator = seeded_generator(4)
    signs = 2.0 * torch.randint(0, 2, (4, 400, 6), generator=generator) - 1
    wells = signs + 0.2 * torch.randn(4, 400, 6, generator=generator)
    assert isinstance(fit_base(wells).parts[0], ProductBase)
    first = 3 * torch.randn(4, 400, 1, generator=generator)
    neck = torch.cat([first, (first / 2).exp() * torch.randn(4, 400, 5, generator=generator)], -1)
    base = fit_base(neck[..., [1, 0, 2, 3, 4, 5]])
    assert isinstance(base.parts[0], ScaleBase)
    assert base.local is base.parts[0].chart
    assert base.local.driver == 1
    crossed = torch.stack([first[..., 0], torch.where(neck[..., 1] > 0, 1.0, -1.0) * first[..., 0]], -1)
    base = fit_base(crossed + 0.1 * torch.randn(crossed.shape, generator=generator))
    assert base.local.num_components > 1
    assert base.parts[0] is base.local


def test_a_coordinate_that_does_not_vary_still_gets_a_base():
    draws = torch.randn(4, 200, 3, generator=seeded_generator(10))
    draws[..., 2] = 1.5
    base = fit_base(draws)
    assert not isinstance(base.parts[0], ScaleBase)
    assert bool(base.log_prob(draws.flatten(0, 1)).isfinite().all())


def test_heavy_draws_get_heavy_bases():
    generator = seeded_generator(11)
    noise = torch.randn(2, 4, 400, 5, generator=generator, dtype=torch.float64)
    base = fit_base(noise[0] / noise[1])
    assert isinstance(base.parts[0], StudentProduct)
    assert base.parts[0].degrees.tolist() == [1] * 5
    base = fit_base(noise[0] / noise[1, ..., :2].square().mean(-1, keepdim=True).sqrt())
    assert isinstance(base.parts[0], StudentBase)
    assert base.parts[0].degrees == 2


def test_wells_along_no_axis_get_axes_of_their_own():
    generator = seeded_generator(12)
    signs = 2.0 * torch.randint(0, 2, (4, 400, 6), generator=generator) - 1
    wells = signs + 0.2 * torch.randn(4, 400, 6, generator=generator)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    base = fit_base(wells @ turn)
    assert isinstance(base.parts[0], RotatedBase)
    # The entropy of six pairs of wells, less what the widening costs.
    assert float(base.log_prob(wells.flatten(0, 1) @ turn).mean()) > 6 * (-math.log(2) - math.log(0.2) - 1.419) - 0.6


def test_few_rows_in_many_coordinates_get_a_shrunk_covariance():
    """256 rows to fit to in 200 coordinates: the sample covariance would lie 100 nats a row below."""
    rows = torch.randn(4, 128, 200, generator=seeded_generator(13), dtype=torch.float64)
    base = fit_base(rows)
    fresh = torch.randn(500, 200, generator=seeded_generator(14), dtype=torch.float64)
    truth = -0.5 * (fresh.square() + math.log(2 * math.pi)).sum(1)
    assert float((truth - base.log_prob(fresh)).mean()) < 10


def test_shares_and_tails_defend_the_fitted_base():
    """However light the draws are, the base has the tails of five degrees, in all directions and in each axis alone."""
    rows = torch.randn(4, 300, 3, generator=seeded_generator(15), dtype=torch.float64)
    given = MixtureBase(torch.ones(1), torch.zeros(1, 3), 25 * torch.eye(3)[None], rows)
    for base, num_parts, share in ((fit_base(rows), 4, 0.9), (fit_base(rows, given=given), 5, 0.85)):
        assert len(base.parts) == num_parts
        assert abs(base.shares[0] - share) < 1e-12
        assert abs(sum(base.shares) - 1) < 1e-12
        far = base.log_prob(torch.tensor([[1e3, 0, 0], [1e4, 0, 0], [1e3, 1e3, 1e3], [1e4, 1e4, 1e4]]).double())
        # log 10 times the exponent: 6 along one axis of a product, 8 for the joint distribution along the diagonal.
        assert abs(float(far[0] - far[1]) / math.log(10) - 6) < 0.01
        assert abs(float(far[2] - far[3]) / math.log(10) - 8) < 0.01


def test_bent_draws_get_a_curved_regression():
    noise = torch.randn(4, 300, 2, generator=seeded_generator(16), dtype=torch.float64)
    first = 3 * noise[..., :1]
    base = fit_base(torch.cat([first.square() + 0.1 * noise[..., 1:], first], -1))
    assert isinstance(base.local, CurvedRegression)
    assert base.chart is base.local
    assert base.chart.driver == 1
    # Draws of the base weigh evenly: its density is the banana's, up to what defence and widening cost.
    x = base.draw(2000, seeded_generator(17))
    banana = -0.5 * ((x[:, 1] / 3).square() + 100 * (x[:, 0] - x[:, 1].square()).square())
    assert weight_ess(banana - base.log_prob(x)) > 0.5 * 2000


def test_a_kept_base_holds_its_share_and_competes_with_the_fitted_ones():
    """Draws that saw one of two modes leave a tenth for the other; draws that saw both take the kept base itself."""
    shapes = [measure_shape(lambda x, c=c: -0.5 * ((x - c) / 0.1).square().sum(-1), torch.full((2,), c)) for c in (0.0, 9.0)]
    kept = ComponentBase(shapes, torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
    one = 0.1 * torch.randn(4, 400, 2, generator=seeded_generator(5)).double()
    base = fit_base(one, kept=kept)
    assert base.parts[-1] is kept
    assert base.shares[-1] == 0.1
    assert math.isclose(sum(base.shares), 1)
    assert fit_base(one, kept=kept, is_kept_enough=True).parts[0] is kept
    apart = 9.0 * (torch.rand(4, 60, 1, generator=seeded_generator(6)) < 0.5)
    skewed = torch.where(apart > 0, apart + one[:, :60], apart + one[:, 60:120])
    base = fit_base(skewed, kept=kept, most_components=1)
    assert base.parts[0] is kept
    assert kept not in base.parts[1:]
    assert base.local.num_components == 2
