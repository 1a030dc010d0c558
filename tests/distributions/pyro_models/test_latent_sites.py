"""Values of latent sites from the reals."""

import math

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch.distributions import constraints

from drl_density.distributions.pyro_models.latent_sites import (
    LatentSite,
    SiteValues,
    bijection,
    is_improper,
    layers,
    own_mask,
    point_mass,
    widened,
)

MASK = torch.tensor([[True, False], [False, True]])


def test_absent_entries_are_no_coordinates():
    site = LatentSite("x", torch.Size((2, 2, 3)), torch.Size((2, 2)), MASK)
    assert site.shape == (6,)
    reals = site.reals(torch.arange(1.0, 7.0))
    assert reals.tolist() == [[[1, 2, 3], [0, 0, 0]], [[0, 0, 0], [4, 5, 6]]]
    assert torch.equal(torch.vmap(site.reals)(torch.arange(1.0, 7.0)[None])[0], reals)
    assert float(site.log_volume(torch.ones(2, 2, 3))) == 6  # a Jacobian for every entry
    assert float(site.log_volume(torch.ones(2, 2))) == 2  # or one for every event
    whole = LatentSite("x", torch.Size((2,)), torch.Size())
    assert (whole.shape, whole.entries) == ((2,), None)
    assert float(whole.log_volume(torch.ones(2))) == 2


def test_sites_take_their_values_and_count_their_jacobians():
    def model():
        scale = pyro.sample("scale", dist.Exponential(torch.ones(2, dtype=torch.float64)).to_event(1))
        count = pyro.sample("count", dist.Poisson(torch.tensor(3.0)))
        pyro.sample("copy", dist.Delta(2 * scale).to_event(1))
        pyro.sample("y", dist.Normal(count, scale).to_event(1), obs=torch.ones(2, dtype=torch.float32))

    site = LatentSite("scale", torch.Size((2,)), torch.Size())
    reals = torch.tensor([0.5, -1.0], dtype=torch.float64)
    values = SiteValues({"scale": site}, {"scale": reals}, fixed={"count": torch.tensor(4.0)})
    with values:
        trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    assert float(values.log_jacobian) == -0.5
    torch.testing.assert_close(trace.nodes["scale"]["value"], reals.exp())
    assert float(trace.nodes["count"]["value"]) == 4
    assert float(trace.nodes["count"]["log_prob_sum"]) == 0  # it integrates to one, whatever its value
    torch.testing.assert_close(trace.nodes["copy"]["value"], 2 * reals.exp())
    assert trace.nodes["y"]["value"].dtype == torch.float64


def test_angles_lie_on_a_circle():
    density = dist.VonMises(torch.zeros(3), 1.0).to_event(1)
    values = bijection(density)(torch.tensor([-50.0, 0.0, 50.0], dtype=torch.float64))
    torch.testing.assert_close(values, torch.tensor([-math.pi, 0.0, math.pi], dtype=torch.float64))


def test_distributions_are_looked_into():
    normal = dist.Normal(torch.zeros(2), 1.0)
    assert [type(one) for one in layers(normal.mask(False).expand([3, 2]).to_event(1))][-1] is dist.Normal
    assert own_mask(normal) is True
    assert own_mask(normal.mask(False)) is False
    assert torch.equal(own_mask(normal.mask(MASK[0]).mask(MASK[1]).to_event(1)), MASK[0] & MASK[1])
    assert is_improper(dist.ImproperUniform(constraints.real, (), (2,)).mask(True))
    assert not is_improper(normal)
    assert point_mass(normal) is None
    assert point_mass(dist.Delta(torch.ones(2)).to_event(1)).tolist() == [1, 1]
    assert widened(MASK[0], torch.Size((2, 2))).tolist() == [[True, True], [False, False]]


def test_probabilities_are_not_clipped():
    """Torch's own map stops at the rounding of 1, which cuts 1 % off a Dirichlet density with shapes of 0.1."""
    map_to_values = bijection(dist.Dirichlet(torch.full((3,), 0.1)))
    far = torch.tensor([60.0, 60.0], dtype=torch.float64)
    assert float(map_to_values(far)[1]) < 1e-25
    assert torch.allclose(map_to_values.inv(map_to_values(far)), far)
