"""Models seen from data space: small requests for draws."""

import copy
import math
import pickle

import pyro
import torch
from pyro.infer import Predictive

from drl_density.datasets import Column
from drl_density.density.data_units import on_support
from drl_density.transforms import Bounds


def test_small_requests_depend_on_the_generator_alone(tiny_density):
    """Draws are distinct, differ between seeds, and are the same for copies and for the same object again."""
    target = tiny_density.distribution()
    draws = Predictive(lambda: pyro.sample("x", tiny_density.distribution()), num_samples=50)()["x"]
    assert len(torch.unique(draws.reshape(50, 2), dim=0)) == 50
    runs = []
    for seed, source in ((1, target), (1, target), (1, copy.deepcopy(target)), (1, pickle.loads(pickle.dumps(target)))):
        pyro.set_rng_seed(seed)
        runs.append(source.sample((5,)))
    assert all(torch.equal(runs[0], other) for other in runs[1:])
    pyro.set_rng_seed(2)
    assert not torch.equal(runs[0], target.sample((5,)))
    pair = [target.run((5,), generator=torch.Generator().manual_seed(seed)).draws for seed in (3, 3, 4)]
    assert torch.equal(pair[0], pair[1])
    assert not torch.equal(pair[0], pair[2])
    assert target.sample((0,)).shape == (0, 2)


def test_rows_move_onto_the_support_of_every_column():
    pixel = Column("p", "integer", 1.0, lower=-0.5, upper=3.5)
    columns = (pixel, Column("q", "integer", 1.0, lower=-0.5, upper=3.5), Column("x"), Column("x+", lower=0.0))
    rows = torch.tensor([[[-0.5, 3.5, 0.3, -0.1], [1.4, 1.6, -7.0, 2.0]]], dtype=torch.float64)
    assert on_support(columns, rows).tolist() == [[[0.0, 3.0, 0.3, 0.0], [1.0, 2.0, -7.0, 2.0]]]
    assert rows[0, 0, 0] == -0.5


def test_rounded_draws_keep_within_the_bounds_of_their_density():
    """A logarithm as coordinate gives counts above 0 no mass at 0, so a draw of 0.3 stands for 1 and not for 0."""
    columns = (Column("n", "integer", 1.0, is_positive=True), Column("t", "rounded", 0.1, offset=0.05), Column("x"))
    bounds = Bounds(torch.tensor([0.0, 0.05, -math.inf]).double(), torch.tensor([math.inf, 0.35, 0.0]).double())
    rows = torch.tensor([[0.3, 0.06, -1.0], [1.4, 0.34, -2.0], [math.nan, 0.27, -1e-9]], dtype=torch.float64)
    found = on_support(columns, rows, bounds)
    torch.testing.assert_close(
        found[:, :2], torch.tensor([[1.0, 0.15], [1.0, 0.25], [math.nan, 0.25]]).double(), equal_nan=True
    )
    assert bool(bounds.are_inside(found)[~found.isnan()].all())
    assert on_support(columns, rows)[0, 0] == 0.0
