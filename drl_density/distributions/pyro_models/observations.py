"""The observed sites of a Pyro model."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from drl_density.distributions.pyro_models.latent_sites import sample_sites
from drl_density.records.brief import brief


@dataclass(frozen=True, eq=False)
class Observation:
    """An observed site.

    Attributes:
        value: observed values ``(*batch, *event)``.
        event_dim: number of dimensions of one value.
        present: which values a mask leaves in the model, a boolean of the batch; ``None`` for all.
    """

    value: Tensor
    event_dim: int
    present: Tensor | None = None

    __repr__ = brief

    def chosen(self, log_prob: Tensor) -> Tensor:
        """Log density of the values that are in the model, ``(*batch)``, or one vector where a mask leaves some out."""
        if self.present is None:
            return log_prob
        places = self.present.flatten().nonzero().flatten()
        return log_prob.expand(self.present.shape).flatten()[places]

    @property
    def seen(self) -> Tensor:
        """The observed values that are in the model."""
        return self.value if self.present is None else self.value[self.present]


def find_observations(trace: Trace) -> dict[str, Observation]:
    """Observed sites by name; the half of a site with ``obs_mask`` that is observed takes the name of the site.

    Factors and deterministic sites observe nothing and are not among them.
    """
    found = {}
    for name, site in sample_sites(trace).items():
        if not site["is_observed"]:
            continue
        if isinstance(site["fn"], dist.Unit) or site["infer"].get("_deterministic") or site["mask"] is False:
            continue
        mask, value = site["mask"], site["value"]
        batch = torch.broadcast_shapes(site["fn"].batch_shape, value.shape[: value.ndim - site["fn"].event_dim])
        value = value.expand(batch + site["fn"].event_shape)
        present = mask.expand(batch) if isinstance(mask, Tensor) else None
        if present is not None and bool(present.all()):
            present = None
        whole = name.removesuffix("_observed")
        name = whole if whole in trace.nodes and f"{whole}_unobserved" in trace.nodes else name
        found[name] = Observation(value, site["fn"].event_dim, present)
    return found


def find_factors(trace: Trace) -> tuple[str, ...]:
    """Names of the factors, which may hold a likelihood without observing a value."""
    return tuple(name for name, site in sample_sites(trace).items() if isinstance(site["fn"], dist.Unit))


def refuse_nan(trace: Trace) -> None:
    """Refuse a model whose log density is NaN at an ordinary point, by the site that makes it so.

    Raises:
        ValueError: such a site.
    """
    for name, site in sample_sites(trace).items():
        if not bool(site["log_prob"].isnan().any()):
            continue
        missing = int(site["value"].isnan().sum()) if site["value"].is_floating_point() else 0
        if site["is_observed"] and missing:
            raise ValueError(
                f"observed site {name!r} holds {missing} NaN among {site['value'].numel()} values: leave these rows out, or "
                "give pyro.sample(..., obs_mask=~y.isnan()) with numbers in their place"
            )
        kind = "observed" if site["is_observed"] else "latent"
        raise ValueError(
            f"the log density of {kind} site {name!r} is NaN where all latent sites have ordinary values: look at the "
            "parameters that the model computes for it, such as a logarithm or a root of a negative number"
        )
