"""Sums of products over discrete sites, against sums written out."""

import math

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from drl_density.distributions.pyro_models.sum_product import einsum, log_sum_product, tensordot, transpose
from drl_density.testing import seeded_generator


def test_sums_are_those_of_torch():
    a, b = (torch.rand(shape, generator=seeded_generator(), dtype=torch.float64) for shape in ((2, 3), (4, 3)))
    torch.testing.assert_close(einsum("ij,kj->ki", a.log(), b.log()).exp(), torch.einsum("ij,kj->ki", a, b))
    torch.testing.assert_close(tensordot(a.log(), b.log(), ((1,), (1,))).exp(), a @ b.T)
    torch.testing.assert_close(einsum("ij->ji", a), a.T)
    assert transpose(a, (1, 0)).shape == (3, 2)
    rows = torch.rand((5, 2, 3), generator=seeded_generator(), dtype=torch.float64).log()
    mapped = torch.vmap(lambda row: einsum("ij,kj->ki", row, b.log()))(rows)
    torch.testing.assert_close(mapped[2], einsum("ij,kj->ki", rows[2], b.log()))


def test_factors_that_peak_far_apart_keep_their_sum():
    far = torch.tensor([0.0, -900.0], dtype=torch.float64, requires_grad=True)
    found = einsum("a,a->", far, far.flip(0))
    assert math.isclose(found.item(), -900 + math.log(2))
    torch.testing.assert_close(torch.autograd.grad(found, far)[0], torch.ones(2, dtype=torch.float64))


def test_a_chain_of_states_in_plates_is_summed_out():
    start = torch.tensor([0.3, 0.7], dtype=torch.float64)
    step = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    mean = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    y = torch.tensor([[0.1, 1.0, -0.4], [2.0, 1.5, 0.3]], dtype=torch.float64)

    def model():
        with pyro.plate("series", 2):
            state = None
            for t in pyro.markov(range(3)):
                weights = start if state is None else step[state]
                state = pyro.sample(f"x_{t}", dist.Categorical(weights), infer={"enumerate": "parallel"})
                pyro.sample(f"y_{t}", dist.Normal(mean[state], 1.0), obs=y[:, t])

    trace = poutine.trace(poutine.enum(model, first_available_dim=-2)).get_trace()
    likelihood = dist.Normal(mean, 1.0).log_prob(y[..., None]).exp()  # (series, time, state)
    forward = start * likelihood[:, 0]
    for t in (1, 2):
        forward = (forward @ step) * likelihood[:, t]
    torch.testing.assert_close(log_sum_product(trace), forward.sum(1).log().sum())
