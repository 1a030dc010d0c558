"""The latent sites of a Pyro model, and the messenger that gives them values from the reals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Transform, constraints

from drl_density.distributions.pyro_models.precision import LOW
from drl_density.distributions.reals import real_transform

PERIODIC = ("VonMises", "SineBivariateVonMises", "SineSkewed")
"""Distributions of angles; torch states all reals as their support, over which they have no finite integral."""


@dataclass(frozen=True, eq=False)
class LatentSite:
    """One continuous latent site.

    Attributes:
        name: name of the site in the model.
        real_shape: shape of the reals that are mapped onto its value.
        batch_shape: shape of its batch, by plates or by its parameters.
        present: entries of the batch, or of batch and event, that are part of the model; ``None`` for all of them.
        is_improper: whether its prior has no finite integral.
    """

    name: str
    real_shape: torch.Size
    batch_shape: torch.Size
    present: Tensor | None = None
    is_improper: bool = False

    @property
    def entries(self) -> Tensor | None:
        """Which of the reals are coordinates, a boolean of ``real_shape``; ``None`` for all of them."""
        return None if self.present is None else widened(self.present, self.real_shape)

    @property
    def shape(self) -> torch.Size:
        """Shape of its coordinates: that of the reals, or one vector where some entries are not part of the model."""
        entries = self.entries
        return self.real_shape if entries is None else torch.Size((int(entries.sum()),))

    def reals(self, coordinates: Tensor) -> Tensor:
        """All reals of the site, with zeros for entries that are not part of the model."""
        entries = self.entries
        if entries is None:
            return coordinates.reshape(self.real_shape)
        places = torch.where(entries.flatten(), entries.flatten().long().cumsum(0) - 1, len(coordinates))
        padded = torch.cat([coordinates, coordinates.new_zeros(1)])  # vmap has no assignment by a boolean mask
        return padded[places].reshape(self.real_shape)

    def log_volume(self, slope: Tensor) -> Tensor:
        """Sum of the log Jacobians of the entries that are part of the model."""
        if self.present is None:
            return slope.sum()
        return torch.where(widened(self.present, slope.shape), slope, 0.0).sum()


class SiteValues(Messenger):
    """Gives each continuous latent site the value of its reals under a bijection, and adds up the log Jacobians.

    Args:
        sites: continuous latent sites by name.
        reals: value of each in the reals, with the shape of its ``real_shape`` or with further dimensions to the left.
        fixed: values of discrete sites that integrate to one; their own log density is left out.
        num_leading: dimensions to the left of the reals, over which nothing is summed.
    """

    def __init__(
        self,
        sites: Mapping[str, LatentSite],
        reals: Mapping[str, Tensor],
        *,
        fixed: Mapping[str, Tensor] | None = None,
        num_leading: int = 0,
    ) -> None:
        super().__init__()
        self.sites, self.reals, self.fixed, self.num_leading = sites, reals, fixed or {}, num_leading
        self.constrained: dict[str, Tensor] = {}
        self.log_jacobian: Tensor = torch.zeros((), dtype=torch.float64)

    def _pyro_sample(self, site: Any) -> None:  # a TypedDict whose keys Pyro fills one after another
        if site_is_subsample(site):
            return
        name = site["name"]
        if site["is_observed"]:
            if isinstance(site["value"], Tensor) and site["value"].dtype in LOW:
                site["value"] = site["value"].double()
        elif name in self.fixed:
            site["value"], site["mask"], site["done"] = self.fixed[name], False, True
        elif (point := point_mass(site["fn"])) is not None:
            site["value"], site["done"] = point, True
        elif name in self.sites:
            site["value"], site["done"] = self._value(self.sites[name], site["fn"]), True

    def _value(self, site: LatentSite, density: Any) -> Tensor:
        transform = bijection(density)
        reals = self.reals[site.name]
        value: Any = transform(reals)  # torch leaves the type open
        slope = transform.log_abs_det_jacobian(reals, value)
        if self.num_leading:
            self.log_jacobian = self.log_jacobian + slope.reshape(*slope.shape[: self.num_leading], -1).sum(-1)
        else:
            self.log_jacobian = self.log_jacobian + site.log_volume(slope)
        self.constrained[site.name] = value
        return value


def sample_sites(trace: Any) -> dict[str, Any]:
    """The sample sites of a trace by name, without the row indices of plates.

    >>> import pyro
    >>> from pyro import poutine
    >>> list(sample_sites(poutine.trace(lambda: pyro.sample("x", dist.Normal(0.0, 1.0))).get_trace()))
    ['x']
    """
    nodes = trace.nodes.items()
    return {name: site for name, site in nodes if site["type"] == "sample" and not site_is_subsample(site)}


def bijection(density: Any) -> Transform:
    """The bijection from the reals onto the values of a site's distribution; angles lie on one turn of the circle.

    >>> bijection(dist.Exponential(torch.tensor(1.0)))(torch.zeros(2))
    tensor([1., 1.])
    """
    if any(type(part).__name__ in PERIODIC for part in layers(density)):
        angles = constraints.interval(-math.pi, math.pi)
        return real_transform(constraints.independent(angles, density.event_dim) if density.event_dim else angles)
    return real_transform(density.support)


def point_mass(density: Any) -> Tensor | None:
    """The value that a ``Delta`` holds for certain, ``None`` for any other distribution.

    >>> float(point_mass(dist.Delta(torch.tensor(2.0)).mask(True)))
    2.0
    """
    kinds = list(layers(density))
    if not isinstance(kinds[-1], dist.Delta):
        return None
    return torch.as_tensor(kinds[-1].v).expand(torch.Size((*density.batch_shape, *density.event_shape)))


def is_improper(density: Any) -> bool:
    """Whether a prior has no finite integral by its own statement.

    >>> is_improper(dist.ImproperUniform(constraints.positive, (), ()).mask(True))
    True
    """
    return any(isinstance(part, dist.ImproperUniform) for part in layers(density))


def own_mask(density: Any) -> Tensor | bool:
    """The mask inside a distribution, over the batch of the layer that holds it.

    >>> own_mask(dist.Normal(torch.zeros(2), 1.0).mask(torch.tensor([True, False])).to_event(1))
    tensor([ True, False])
    """
    found: Tensor | bool = True
    for part in layers(density):
        if isinstance(part, dist.MaskedDistribution):
            mask = part._mask
            if isinstance(mask, Tensor):
                mask = mask.expand(part.base_dist.batch_shape)
            found = mask if found is True else found & mask
    return found


def layers(density: Any) -> Iterator[Any]:
    """A distribution and the ones inside it: of an event, a mask or an expansion.

    >>> [type(part).__name__ for part in layers(dist.Normal(torch.zeros(2), 1.0).to_event(1).mask(False))]
    ['MaskedDistribution', 'Independent', 'Normal']
    """
    while True:
        yield density
        if not isinstance(density, dist.MaskedDistribution | torch.distributions.Independent | ExpandedDistribution):
            return
        density = density.base_dist


def widened(mask: Tensor, shape: torch.Size) -> Tensor:
    """A mask of the first dimensions of a shape, over all of them.

    >>> widened(torch.tensor([True, False]), torch.Size((2, 2)))
    tensor([[ True,  True],
            [False, False]])
    """
    return mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)).expand(shape)
