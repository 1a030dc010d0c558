"""Which sites of a Pyro model are coordinates, which are summed out and which integrate to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from drl_density.distributions.pyro_models.latent_sites import (
    LatentSite,
    SiteValues,
    bijection,
    is_improper,
    own_mask,
    point_mass,
    sample_sites,
)
from drl_density.distributions.pyro_models.precision import LOW

NUM_PERTURBATIONS = 4
"""Random values of a site at which the rest of a model is compared, to see whether it depends on the site."""
MOST_SUPPORT_VALUES = 8
"""Values of a finite support that are compared as well."""
PROBE_SPREAD = 0.5
"""Standard deviation of the reals at which a model is examined."""


@dataclass(frozen=True, eq=False)
class Layout:
    """How the latent sites of a model are treated.

    Attributes:
        sites: continuous latent sites by name, in the model's order; their coordinates are the vector u.
        enumerated: discrete latent sites, which are summed out exactly.
        integrated: latent sites on which nothing depends, with a value of each; they integrate to one and are left out.
        unobserved: entries of integrated sites that a mask leaves in the model, for those that have a mask.
        num_batch_dims: largest number of batch dimensions of a site, declared by plates or not. Pyro's ``max_plate_nesting``
            would count plates alone, and a dimension that none declares could be taken for one of summation.
    """

    sites: dict[str, LatentSite]
    enumerated: tuple[str, ...]
    integrated: dict[str, Tensor]
    unobserved: dict[str, Tensor]
    num_batch_dims: int


class _Refusal(Exception):
    """What is wrong with a model; Pyro adds its trace to the message of a ValueError, which would hide this one."""


@dataclass(eq=False)
class _Discovery(Messenger):
    """Gives each latent site some value, and notes what kind of site it is."""

    sites: dict[str, LatentSite] = field(default_factory=dict)
    discrete: dict[str, Tensor] = field(default_factory=dict)
    supports: dict[str, list[Tensor]] = field(default_factory=dict)
    endless: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def _pyro_sample(self, site: Any) -> None:
        name, density = site["name"], site["fn"]
        if site_is_subsample(site):
            _refuse_subsample(name, density.size, density.subsample_size)
            return
        for frame in site["cond_indep_stack"]:
            _refuse_subsample(frame.name, frame.full_size, frame.size)
        if site["is_observed"]:
            if isinstance(site["value"], Tensor) and site["value"].dtype in LOW:
                site["value"] = site["value"].double()
            return
        point = point_mass(density)
        if point is None and _is_discrete(density):
            point = self.discrete[name] = density.sample()
            if density.has_enumerate_support:
                values = density.enumerate_support(expand=True)
                self.supports[name] = list(values[:MOST_SUPPORT_VALUES])
            else:
                self.endless[name] = type(density).__name__
        elif point is None:
            point = self._continuous(site)
        site["value"], site["done"] = point, True

    def _continuous(self, site: Any) -> Tensor:
        name, density = site["name"], site["fn"]
        transform = _known_bijection(name, density)
        shape = torch.Size(transform.inverse_shape(density.shape()))
        present = _present(site["mask"], density)
        self.sites[name] = LatentSite(name, shape, density.batch_shape, present, is_improper(density))
        return transform(torch.zeros(shape, dtype=torch.float64))


def examine_model(model: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Layout:
    """Find the latent sites of a model, by running it a few times.

    Raises:
        ValueError: a subsampled plate, a support without a bijection, a discrete site that cannot be summed out, or no
            latent site.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = _Discovery()
        try:
            with found:
                trace = poutine.trace(model).get_trace(*args, **kwargs)
        except _Refusal as refusal:
            raise ValueError(str(refusal)) from None
        nodes = sample_sites(trace)
        if not found.sites and not found.discrete:
            raise ValueError("expected a Pyro model with latent sites, it has none (all are observed?)")
        examiner = _Examiner(model, args, kwargs, found)
        sites = {name: examiner.with_settled_mask(site) for name, site in found.sites.items()}
        doubtful = [name for name in nodes if name in found.discrete or _is_masked_observation(name, nodes)]
        integrated = examiner.childless(reversed(doubtful), nodes)
    sites = {name: site for name, site in sites.items() if name not in integrated and site.shape.numel()}
    enumerated = tuple(name for name in nodes if name in found.discrete and name not in integrated)
    for name in enumerated:
        if name in found.endless:
            raise ValueError(
                f"latent site {name!r} is discrete, and its {found.endless[name]} has no finite list of values to sum over: "
                "expected continuous sites, or discrete ones that Pyro can enumerate; integrate it in the model, such as by "
                "GammaPoisson for a Poisson with a Gamma rate, or cut it off as a Categorical"
            )
    if not sites:
        raise ValueError(
            f"expected a Pyro model with continuous latent sites, it has only discrete ones: {', '.join(found.discrete)}; "
            "their sum is exact, so use pyro.infer.TraceEnum_ELBO, whose loss is then minus the log evidence"
        )
    num_batch_dims = max(_num_batch_dims(site) for site in nodes.values())
    masks = {name: _present(nodes[name]["mask"], nodes[name]["fn"]) for name in integrated}
    unobserved = {name: mask for name, mask in masks.items() if mask is not None}
    return Layout(sites, enumerated, integrated, unobserved, num_batch_dims)


class _Examiner:
    """Runs of a model at other values of some sites, to see what depends on them."""

    def __init__(
        self, model: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], found: _Discovery
    ) -> None:
        self.model, self.args, self.kwargs, self.found = model, args, kwargs, found
        self.whole = {
            name: LatentSite(name, site.real_shape, site.batch_shape) for name, site in found.sites.items()
        }
        self.reals = {name: _noise(site.real_shape) for name, site in found.sites.items()}

    def with_settled_mask(self, site: LatentSite) -> LatentSite:
        """The site, whose masked entries are flat coordinates where the rest of the model uses them, and else left out."""
        entries = site.entries
        if entries is None:
            return site
        before = self.terms({})
        for _ in range(NUM_PERTURBATIONS):
            moved = torch.where(entries, self.reals[site.name], _noise(site.real_shape))
            if not _equal(before, self.terms({}, {site.name: moved})):
                return LatentSite(site.name, site.real_shape, site.batch_shape, is_improper=True)
        return site

    def childless(self, names: Any, nodes: Mapping[str, Any]) -> dict[str, Tensor]:
        """Those of some sites on which nothing depends but others of them, with a value of each; the last come first."""
        left_out: dict[str, Tensor] = {}
        for name in names:
            draws = [nodes[name]["fn"].sample() for _ in range(NUM_PERTURBATIONS)]
            values = [*draws, *self.found.supports.get(name, [])]
            ignored = {name, *left_out}
            first = self.terms({name: values[0]}, ignored=ignored)
            if all(_equal(first, self.terms({name: value}, ignored=ignored)) for value in values[1:]):
                left_out[name] = nodes[name]["value"]
        return left_out

    def terms(
        self, changed: Mapping[str, Tensor], reals: Mapping[str, Tensor] | None = None, ignored: Any = ()
    ) -> dict[str, Tensor] | None:
        """Log density of every site but the ignored ones; ``None`` where the model cannot be run."""
        values = SiteValues(self.whole, {**self.reals, **(reals or {})}, fixed={**self.found.discrete, **changed})
        try:
            with values:
                trace = poutine.trace(self.model).get_trace(*self.args, **self.kwargs)
            trace.compute_log_prob()
        except Exception:  # a value that the model cannot take changes it, whatever is raised
            return None
        return {
            name: site["unscaled_log_prob"] if site["mask"] is None else site["log_prob"]
            for name, site in sample_sites(trace).items()
            if name not in ignored
        }


def _equal(one: Mapping[str, Tensor] | None, other: Mapping[str, Tensor] | None) -> bool:
    if one is None or other is None or one.keys() != other.keys():
        return False
    return all(one[name].shape == other[name].shape and _agree(one[name], other[name]) for name in one)


def _agree(one: Tensor, other: Tensor) -> bool:
    """Whether entries are equal; not-a-number agrees with itself, as it does where a model has no density."""
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _noise(shape: torch.Size) -> Tensor:
    return PROBE_SPREAD * torch.randn(shape, dtype=torch.float64)


def _is_discrete(density: Any) -> bool:
    return bool(getattr(density.support, "is_discrete", False))


def _is_masked_observation(name: str, nodes: Mapping[str, Any]) -> bool:
    """Whether a site is the unobserved half of ``pyro.sample(..., obs_mask=...)``."""
    partner = f"{name.removesuffix('_unobserved')}_observed"
    return name.endswith("_unobserved") and partner in nodes and not nodes[name]["is_observed"]


def _num_batch_dims(site: Any) -> int:
    """Dimensions of the log density of a site; an observed value may have more than its distribution."""
    batch = site["fn"].batch_shape
    return max(len(batch), site["value"].ndim - site["fn"].event_dim)


def _known_bijection(name: str, density: Any) -> Any:
    """The bijection of a site.

    Raises:
        _Refusal: a support without one.
    """
    try:
        return bijection(density)
    except ValueError as fault:
        raise _Refusal(f"latent site {name!r} ({type(density).__name__}): {fault}") from None


def _present(mask: Any, density: Any) -> Tensor | None:
    """Entries of a site that a mask leaves in the model; ``None`` for all."""
    own = own_mask(density)
    outer = torch.tensor(True) if mask is None else torch.as_tensor(mask)
    outer = outer.expand(density.batch_shape)
    if isinstance(own, Tensor):
        outer = outer.reshape(outer.shape + (1,) * (own.ndim - outer.ndim)) & own
    elif own is False:
        outer = torch.zeros_like(outer)
    return None if bool(outer.all()) else outer


def _refuse_subsample(name: str, size: int | None, subsample_size: int | None) -> None:
    """Refuse a plate that sees only some of its rows.

    Raises:
        _Refusal: such a plate.
    """
    if size is not None and subsample_size is not None and 0 <= subsample_size < size:
        raise _Refusal(
            f"plate {name!r} takes {subsample_size} of its {size} rows and scales their likelihood up, which is a random "
            f"estimate and no density: give the plate all rows, pyro.plate({name!r}, {size}); particles are evaluated in "
            "chunks, so that memory stays bounded"
        )
