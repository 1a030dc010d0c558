"""A density whose model is known in closed form, in data units of scale 2 and shift 2."""

import math

import torch
import xarray as xr
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

import drl_density as drl
from drl_density.datasets import Column
from drl_density.density import Baselines, Density
from drl_density.density.data_units import freeze
from drl_density.errors import Verdict
from drl_density.samplers import plan_level_zero
from drl_density.testing import GaussianMixtureSequence, seeded_generator
from drl_density.transforms import Affine
from drl_density.weights import LogPartitionEstimate

SCALE, SHIFT = 2.0, 2.0
SYSTEM = GaussianMixtureSequence(
    torch.tensor([0.45, 0.55]).double(),
    torch.tensor([[-1.2, -0.5, 0.4], [1.1, -0.2, -0.6]]).double(),
    torch.tensor(
        [
            [[0.10, 0.03, 0.02], [0.03, 0.12, -0.04], [0.02, -0.04, 0.15]],
            [[0.14, -0.05, 0.01], [-0.05, 0.11, 0.03], [0.01, 0.03, 0.10]],
        ]
    ).double(),
    drl.NoiseSchedule.log_spaced(5),
)


def closed_form_density(system=SYSTEM, columns=None, transform=None):
    """The sequence behind a transform, which is u = (x - SHIFT) / SCALE where none is given."""
    draws = system.sample(2000, 0, generator=seeded_generator(7))
    transform = transform or Affine(-SHIFT / SCALE, 1 / SCALE)
    zeros = torch.zeros(2, 2, dtype=torch.float64)
    return Density(
        model=freeze(system.model),
        transform=transform,
        estimate=LogPartitionEstimate(
            float(system.log_z(0)), 0.0, 0.0, zeros, 2.0, math.nan, "none-known", Verdict.RELIABLE, ""
        ),
        event_shape=(system.dim,),
        columns=columns or tuple(Column(f"x{index}") for index in range(system.dim)),
        settings=drl.FitSettings(),
        plan=plan_level_zero(system.model, generator=seeded_generator(8)),
        pool=transform.inv(draws),
        baselines=Baselines(0.0, 0.0, 0.0),
        history=xr.Dataset(),
    )


def conditional(row, mask, system=SYSTEM):
    """(log density of the observed cells, the conditional of the missing ones) of a row in data units, in closed form."""
    prior = system.marginal(0).component_distribution
    means, covariances = SHIFT + SCALE * prior.mean, SCALE**2 * prior.covariance_matrix
    o, m = (~mask).nonzero().flatten(), mask.nonzero().flatten()
    block = covariances[:, o][:, :, o]
    gain = covariances[:, m][:, :, o] @ torch.linalg.inv(block)
    logs = system.weights.log() + MultivariateNormal(means[:, o], block).log_prob(row[o].double())
    centers = means[:, m] + (gain @ (row[o].double() - means[:, o])[..., None]).squeeze(-1)
    spreads = covariances[:, m][:, :, m] - gain @ covariances[:, o][:, :, m]
    law = MixtureSameFamily(Categorical(logits=logs), MultivariateNormal(centers, 0.5 * (spreads + spreads.mT)))
    return float(logs.logsumexp(0)), law
