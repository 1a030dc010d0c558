"""Discrete latent sites of a Pyro model: summed out in its density, drawn given the continuous ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer import infer_discrete
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.trace_struct import Trace
from pyro.util import check_site_shape
from torch import Tensor

from drl_density.distributions.pyro_models.latent_sites import sample_sites
from drl_density.distributions.pyro_models.layout import Layout
from drl_density.distributions.pyro_models.sum_product import log_sum_product


class _Enumeration(EnumMessenger):
    """Pyro's parallel enumeration, which reads shapes from ``value.data``; torch.vmap allows no access to that."""

    def _pyro_post_sample(self, msg: Any) -> None:
        value = msg["value"]
        if value is None or not isinstance(msg["fn"], TorchDistributionMixin):
            return
        shape = value.shape[: value.dim() - msg["fn"].event_dim]
        known = msg["infer"].setdefault("_dim_to_id", {})
        known.update(self._param_dims.get(msg["name"], {}))
        self._value_dims[msg["name"]] = {
            dim: id_ for dim, id_ in known.items() if len(shape) >= -dim and shape[dim] > 1
        }


def with_enumeration(model: Callable[..., Any], layout: Layout) -> Callable[..., Any]:
    """The model with its discrete sites marked for summation, each along a dimension of its own left of all plates."""
    if not layout.enumerated:
        return model
    return _Enumeration(-1 - layout.num_batch_dims)(_marked(model, layout))


def check_shapes(trace: Trace, layout: Layout) -> None:
    """Refuse batch dimensions that no plate declares: a sum over discrete values needs to know what is independent.

    Raises:
        ValueError: such a site.
    """
    trace.compute_log_prob()
    for site in sample_sites(trace).values():
        check_site_shape(site, layout.num_batch_dims)


def log_joint(trace: Trace, layout: Layout) -> Tensor:
    """Log density of a trace, with enumerated sites summed out by variable elimination."""
    if not layout.enumerated:
        return torch.as_tensor(trace.log_prob_sum())  # the number 0 for a model without sites
    return log_sum_product(trace)


def draw_discrete(
    model: Callable[..., Any],
    arguments: tuple[tuple[Any, ...], Mapping[str, Any]],
    layout: Layout,
    values: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Values of the discrete and the integrated sites, drawn given the continuous ones by torch's global generator.

    Args:
        model: Pyro model.
        arguments: positional and keyword arguments of the model.
        layout: how its sites are treated.
        values: value of each continuous site.
    """
    given = poutine.condition(model, dict(values))
    if layout.enumerated:
        given = infer_discrete(_marked(given, layout), first_available_dim=-1 - layout.num_batch_dims, temperature=1)
    args, kwargs = arguments
    trace = poutine.trace(given).get_trace(*args, **kwargs)
    nodes = sample_sites(trace)
    return {name: nodes[name]["value"] for name in (*layout.enumerated, *layout.integrated)}


def _marked(model: Callable[..., Any], layout: Layout) -> Callable[..., Any]:
    def settings(site: Any) -> Any:
        return {"enumerate": "parallel"} if site["name"] in layout.enumerated else {}

    return poutine.infer_config(model, settings)
