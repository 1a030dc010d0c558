"""Draws of a model's posterior as a tree that ArviZ reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drl_density.distributions.pyro_models import JointDensity

if TYPE_CHECKING:
    import xarray as xr

MOST_DISCRETE_DRAWS = 1024
"""Draws of a model whose discrete sites are drawn one after another, in milliseconds each."""
MOST_VALUES = 2**24
"""Numbers in the group of pointwise log likelihoods."""


def posterior_tree(joint: JointDensity, draws: Tensor, *, seed: int | None = None) -> xr.DataTree:
    """Groups ``posterior``, ``sample_stats``, ``observed_data`` and ``log_likelihood`` of a model.

    The entries of a masked site that are part of the model are listed in one vector, in their order. Draws are thinned where
    discrete sites are drawn, or where the log likelihoods of many observations would fill memory.

    Args:
        joint: joint density of the model.
        draws: unconstrained draws ``(chain, draw, num_features)``.

    >>> import pyro, pyro.distributions as dist
    >>> from drl_density import joint_density
    >>> def model():
    ...     mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    ...     pyro.sample("y", dist.Normal(mean, 1.0), obs=torch.tensor(0.5))
    >>> tree = posterior_tree(joint_density(model).log_density, torch.zeros(2, 5, 1).double())
    >>> sorted(tree.children), tree["posterior"]["mean"].shape
    (['log_likelihood', 'observed_data', 'posterior', 'sample_stats'], (2, 5))
    """
    import xarray as xr

    draws = draws.detach().double()[:, :: _stride(joint, draws)]
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    with torch.no_grad():
        log_joint = joint(draws.flatten(0, 1)).reshape(draws.shape[:2])
        sites, pointwise = joint.draw_sites(draws, generator=generator), joint.log_likelihood(draws)
    coords = {"chain": range(draws.shape[0]), "draw": range(draws.shape[1])}
    masks = {name: site.present for name, site in joint.layout.sites.items()} | joint.layout.unobserved
    variables = {name: _variable(name, _kept(value, masks.get(name))) for name, value in sites.items()}
    groups = {
        "posterior": xr.Dataset(variables, coords=coords),
        "sample_stats": xr.Dataset({"lp": (("chain", "draw"), log_joint.numpy())}, coords=coords),
    }
    if joint.observations:
        seen = {name: one.seen for name, one in joint.observations.items()}
        groups["observed_data"] = xr.Dataset({name: _variable(name, value, ()) for name, value in seen.items()})
    if pointwise:
        variables = {name: _variable(name, value) for name, value in pointwise.items()}
        groups["log_likelihood"] = xr.Dataset(variables, coords=coords)
    return xr.DataTree.from_dict(groups)


def _stride(joint: JointDensity, draws: Tensor) -> int:
    """Every how many draws one is kept."""
    num_draws, most = draws.shape[0] * draws.shape[1], draws.shape[0] * draws.shape[1]
    if joint.layout.enumerated or joint.layout.integrated:
        most = min(most, MOST_DISCRETE_DRAWS)
    if not joint.layout.enumerated:
        num_values = sum(one.seen.numel() for one in joint.observations.values())
        most = min(most, max(draws.shape[0], MOST_VALUES // max(1, num_values)))
    return -(-num_draws // most)


def _kept(value: Tensor, mask: Tensor | None) -> Tensor:
    """Draws ``(chain, draw, *site)`` of the entries that a mask leaves in the model, in one vector; all without a mask."""
    if mask is None:
        return value
    places = mask.flatten().nonzero().flatten()
    return value.flatten(2, 1 + mask.ndim)[:, :, places] if mask.ndim else value


def _variable(name: str, value: Tensor, leading: tuple[str, ...] = ("chain", "draw")) -> tuple[tuple[str, ...], object]:
    """Dimensions and values of an xarray variable, the event's dimensions named as ArviZ names them."""
    own = (f"{name}_dim_{index}" for index in range(value.ndim - len(leading)))
    return (*leading, *own), value.detach().cpu().numpy()
