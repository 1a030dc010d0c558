"""A Pyro model as an unnormalised density: its joint log probability over the latent sites, without constraints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import biject_to

from drl_density.distributions.energy_distribution import ChainSampler, EnergyDistribution


class _Unconstrained(Messenger):
    """Gives each latent site a value by its own bijection from the reals, and adds up the log-Jacobians.

    ``values`` maps sites to unconstrained values; a site that is not there gets zeros and is written down in ``found``.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values
        self.found: dict[str, tuple[torch.Size, Any]] = {}
        self.constrained: dict[str, Tensor] = {}
        self.log_jacobian: Tensor | float = 0.0

    def _pyro_sample(self, site: dict[str, Any]) -> None:
        if site["is_observed"] or site_is_subsample(site):
            return
        name, density = site["name"], site["fn"]
        if getattr(density.support, "is_discrete", False):
            raise ValueError(
                f"latent site {name!r} is discrete: expected continuous sites; sum discrete ones out in the model"
            )
        transform = biject_to(density.support)
        shape = torch.Size(transform.inverse_shape(density.shape()))
        self.found[name] = (shape, transform)
        point = self.values[name] if name in self.values else torch.zeros(shape, dtype=torch.float64)
        value = transform(point)
        self.log_jacobian = self.log_jacobian + transform.log_abs_det_jacobian(point, value).sum()
        self.constrained[name] = value
        site["value"], site["done"] = value, True


@dataclass(frozen=True)
class JointDensity:
    r"""Latent sites z of a Pyro model as one unconstrained vector u, z = T(u).

    .. math:: F(u) = \log p(T(u), y) + \log\lvert\det J_T(u)\rvert, \qquad \int \exp F(u)\,du = p(y)

    Attributes:
        model: the Pyro model.
        arguments: of the model, positional and by keyword.
        shapes: unconstrained shape of each latent site, in the model's order.
    """

    model: Callable[..., Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    shapes: dict[str, torch.Size]

    @property
    def num_features(self) -> int:
        """Length of u."""
        return sum(shape.numel() for shape in self.shapes.values())

    def __call__(self, u: Tensor) -> Tensor:
        """F of rows ``(n, num_features)``: ``(n,)``, all rows at once."""
        return torch.vmap(self._one)(u)

    def constrain(self, u: Tensor) -> dict[str, Tensor]:
        """Values of the sites for draws ``(*, num_features)``: each ``(*, *site)``."""
        rows = torch.vmap(lambda row: self._run(row)[1])(u.reshape(-1, self.num_features))
        return {name: value.reshape(*u.shape[:-1], *value.shape[1:]) for name, value in rows.items()}

    def _one(self, u: Tensor) -> Tensor:
        return self._run(u)[0]

    def _run(self, u: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        parts = u.split([shape.numel() for shape in self.shapes.values()])
        values = {name: part.reshape(shape) for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)}
        handler = _Unconstrained(values)
        args, kwargs = self.arguments
        with pyro.validation_enabled(False):  # its checks branch on values, which vectorised maps cannot
            with handler:
                trace = poutine.trace(self.model).get_trace(*args, **kwargs)
            return trace.log_prob_sum() + handler.log_jacobian, handler.constrained


def joint_density(model: Callable[..., Any], *args: Any, **kwargs: Any) -> EnergyDistribution:
    """The joint density of a Pyro model's latent sites as an unnormalised distribution on unconstrained vectors.

    Its normaliser is the model's evidence, so :func:`drl_density.sandwich` of it is the evidence with a two-sided
    interval; ``run_chain`` with HMC on it runs many chains of the model side by side. ``.log_density`` is the
    :class:`JointDensity`, whose ``constrain`` maps draws back to the sites.

    Args:
        model: a Pyro model with continuous latent sites of fixed shapes; improper priors are welcome.
        args: of the model.
        kwargs: of the model.

    Raises:
        ValueError: no latent sites, or discrete ones.

    >>> import pyro.distributions as dist
    >>> def model():
    ...     return pyro.sample("scale", dist.Exponential(torch.tensor(1.0).double()))
    >>> target = joint_density(model)
    >>> target.log_prob(torch.zeros(1, 1).double()).tolist()  # exp(0) = 1: log density -1, log-Jacobian 0
    [-1.0]
    """
    probe = _Unconstrained({})
    with probe:
        poutine.trace(model).get_trace(*args, **kwargs)
    if not probe.found:
        raise ValueError("expected a Pyro model with latent sites, it has none (all are observed?)")
    shapes = {name: shape for name, (shape, _) in probe.found.items()}
    joint = JointDensity(model, (args, kwargs), shapes)
    like = torch.empty(0, dtype=torch.float64)
    sampler = ChainSampler(num_warmup=500, num_steps=200)
    return EnergyDistribution(joint, (joint.num_features,), like=like, sampler=sampler)
