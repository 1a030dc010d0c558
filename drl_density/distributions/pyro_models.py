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

from drl_density.distributions.energy import EnergyDistribution
from drl_density.distributions.sampling import ChainSampler


class _Unconstrained(Messenger):
    """Gives each latent site a value by its own bijection from the reals, and adds up the log-Jacobians.

    Args:
        values: unconstrained value of each site; a site without one gets zeros. Every latent site is recorded in ``found``.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values
        self.found: dict[str, torch.Size] = {}
        self.constrained: dict[str, Tensor] = {}
        self.log_jacobian = torch.zeros(())

    def _pyro_sample(self, site: Any) -> None:  # a TypedDict whose keys Pyro fills one after another
        if site["is_observed"] or site_is_subsample(site):
            return
        name, density = site["name"], site["fn"]
        if getattr(density.support, "is_discrete", False):
            raise ValueError(
                f"latent site {name!r} is discrete: expected continuous sites; sum discrete ones out in the model"
            )
        transform = biject_to(density.support)
        shape = torch.Size(transform.inverse_shape(density.shape()))
        self.found[name] = shape
        point = self.values[name] if name in self.values else torch.zeros(shape, dtype=torch.float64)
        value = transform(point)
        self.log_jacobian = self.log_jacobian + transform.log_abs_det_jacobian(point, value).sum()
        self.constrained[name] = value
        site["value"], site["done"] = value, True


@dataclass(frozen=True)
class JointDensity:
    r"""The joint density of a Pyro model's latent sites z as one of an unconstrained vector u, z = T(u).

    .. math:: F(u) = \log p(T(u), y) + \log\lvert\det J_T(u)\rvert, \qquad \int \exp F(u)\,du = p(y)

    Attributes:
        model: Pyro model.
        arguments: positional and keyword arguments of the model.
        shapes: unconstrained shape of each latent site, in the model's order.
    """

    model: Callable[..., Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    shapes: dict[str, torch.Size]

    @property
    def num_features(self) -> int:
        """Length of the unconstrained vector u."""
        return sum(shape.numel() for shape in self.shapes.values())

    def __call__(self, u: Tensor) -> Tensor:
        """Energy F of rows ``(n, num_features)``, evaluated all at once, ``(n,)``."""
        return torch.vmap(self._one)(u)

    def constrain(self, u: Tensor) -> dict[str, Tensor]:
        """Values of the sites for draws ``(*, num_features)``, each ``(*, *site)``."""
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

    Its normaliser is the model's evidence, so :func:`drl_density.sandwich` gives the evidence with a two-sided interval,
    and ``run_chain`` with HMC runs many chains of the model in parallel. The ``log_density`` of the result is a
    :class:`JointDensity`, whose ``constrain`` maps draws back to the sites.

    Args:
        model: Pyro model with continuous latent sites of fixed shapes; improper priors are allowed.
        args: positional arguments of the model.
        kwargs: keyword arguments of the model.

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
    shapes = dict(probe.found)
    joint = JointDensity(model, (args, kwargs), shapes)
    like = torch.empty(0, dtype=torch.float64)
    sampler = ChainSampler(num_warmup=500, num_steps=200)
    return EnergyDistribution(joint, (joint.num_features,), like=like, sampler=sampler)
