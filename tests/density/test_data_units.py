"""Models seen from data space: small requests for draws."""

import copy
import pickle

import pyro
import torch
from pyro.infer import Predictive


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
