"""A Pyro model as an unnormalised density: its joint log probability over the latent sites, without constraints."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.devices import globally_seeded
from drl_density.distributions.energy import EnergyDistribution
from drl_density.distributions.pyro_models.enumeration import check_shapes, draw_discrete, log_joint, with_enumeration
from drl_density.distributions.pyro_models.evaluation import (
    Method,
    choose_method,
    graph_bytes,
    in_chunks,
    rows_per_chunk,
)
from drl_density.distributions.pyro_models.latent_sites import SiteValues, sample_sites, widened
from drl_density.distributions.pyro_models.layout import Layout, examine_model
from drl_density.distributions.pyro_models.observations import Observation, find_factors, find_observations, refuse_nan
from drl_density.distributions.pyro_models.precision import Promotion, double_by_default, in_double, tensors_in
from drl_density.distributions.sampling import ChainSampler
from drl_density.errors import DRLDensityWarning
from drl_density.records.brief import brief

NUM_PROBES = 3
"""Rows at which ways of evaluating a model are compared."""
PROBE_SPREAD = 0.5
"""Standard deviation of these rows."""


@dataclass(frozen=True, eq=False)
class JointDensity:
    r"""The joint density of a Pyro model's continuous latent sites z as one of an unconstrained vector u, z = T(u).

    .. math:: F(u) = \log p(T(u), y) + \log\lvert\det J_T(u)\rvert, \qquad \int \exp F(u)\,du = p(y)

    Discrete latent sites are summed out.

    Attributes:
        model: Pyro model, whose sites have fixed shapes.
        arguments: positional and keyword arguments of the model, with floating-point tensors in float64.
        layout: which sites are coordinates, summed out, or left out as they integrate to one.
        observations: observed sites by name.
        factors: names of the sites made by ``pyro.factor``.
        method: how many rows are evaluated: "vmap", "plate" or "loop".
        is_promoted: whether the model holds float32 tensors of its own, which are cast wherever they meet float64.
        num_rows: largest number of rows that are evaluated at a time.
    """

    model: Callable[..., Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    layout: Layout
    observations: dict[str, Observation]
    factors: tuple[str, ...] = ()
    method: Method = "vmap"
    is_promoted: bool = False
    num_rows: int = 2**20

    __repr__ = brief

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shape of the coordinates of each site, in the model's order."""
        return {name: site.shape for name, site in self.layout.sites.items()}

    @property
    def num_features(self) -> int:
        """Length of the unconstrained vector u."""
        return sum(shape.numel() for shape in self.shapes.values())

    @property
    def improper_sites(self) -> tuple[str, ...]:
        """Sites whose prior has no finite integral, so that the evidence holds a constant of free choice for each."""
        return tuple(name for name, site in self.layout.sites.items() if site.is_improper)

    def __call__(self, u: Tensor) -> Tensor:
        """Energy F of rows ``(n, num_features)``, ``(n,)``.

        A site that under- or overflows to the edge of its support may have an infinite density there, which no point inside
        has: F is minus infinity at such rows.
        """
        values = in_chunks(self.rows, u.double(), self.num_rows)
        return torch.where(values == math.inf, -math.inf, values)

    def constrain(self, u: Tensor) -> dict[str, Tensor]:
        """Values of the continuous sites for draws ``u`` of shape ``(*, num_features)``, each ``(*, *site)``.

        Entries that a mask takes out of the model are NaN.
        """
        return self._over_rows(self._constrained, u)

    def draw_sites(self, u: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Values of all latent sites for draws ``u`` of shape ``(*, num_features)``, each ``(*, *site)``.

        Discrete sites, and those that integrate to one, are drawn given the continuous ones.
        """
        values = self.constrain(u)
        if not self.layout.enumerated and not self.layout.integrated:
            return values
        rows = u.double().reshape(-1, self.num_features)
        own = torch.Generator().manual_seed(torch.seed()) if generator is None else generator
        found = []
        with globally_seeded(own), self._evaluating():
            for row in rows:
                handler, _ = self._trace(row)
                given = {name: value.detach() for name, value in handler.constrained.items()}
                found.append(draw_discrete(self.model, self.arguments, self.layout, given))
        for name in found[0] if found else ():
            stacked = torch.stack([one[name] for one in found])
            if name in self.layout.unobserved:
                present = self.layout.unobserved[name]
                stacked = torch.where(widened(present, stacked.shape[1:]), stacked.double(), math.nan)
            values[name] = stacked.reshape(*u.shape[:-1], *stacked.shape[1:])
        return values

    def log_likelihood(self, u: Tensor) -> dict[str, Tensor]:
        """Log density of every observed value for draws ``u`` of shape ``(*, num_features)``.

        Each site has shape ``(*, *batch)``, or ``(*, num_values)`` where a mask leaves out some values. There is none where
        discrete sites are summed out: the observations then depend on each other through them.
        """
        if self.layout.enumerated or not self.observations:
            return {}
        return self._over_rows(self._pointwise, u)

    def rows(self, u: Tensor) -> Tensor:
        """Energy of rows ``u`` of shape ``(n, num_features)`` by the chosen method, without chunks."""
        if self.method == "loop":
            return torch.stack([self.one(row) for row in u])
        return self._by_plate(u) if self.method == "plate" else torch.vmap(self.one)(u)

    def one(self, u: Tensor) -> Tensor:
        """Energy of one row ``u`` of shape ``(num_features,)``."""
        with self._evaluating():
            handler, trace = self._trace(u)
            return log_joint(trace, self.layout) + handler.log_jacobian

    def _by_plate(self, u: Tensor) -> Tensor:
        """Energy of rows ``(n, num_features)``, which are one more dimension to the left of all batches."""
        reals = {}
        for name, part in self._parts(u).items():
            site = self.layout.sites[name]
            free = self.layout.num_batch_dims - len(site.batch_shape)
            reals[name] = part.reshape(len(u), *(1,) * free, *site.real_shape)
        handler = SiteValues(self.layout.sites, reals, fixed=self.layout.integrated, num_leading=1)
        args, kwargs = self.arguments
        with self._evaluating():
            with handler:
                trace = poutine.trace(self.model).get_trace(*args, **kwargs)
            trace.compute_log_prob()
        total = handler.log_jacobian
        for site in sample_sites(trace).values():
            value = site["log_prob"]
            is_by_row = value.ndim > self.layout.num_batch_dims
            total = total + (value.reshape(value.shape[0], -1).sum(1) if is_by_row else value.sum())
        return total

    def _constrained(self, u: Tensor) -> dict[str, Tensor]:
        with self._evaluating():
            found = self._trace(u)[0].constrained
        present = {name: self.layout.sites[name].present for name in found}
        return {
            name: value if (mask := present[name]) is None else torch.where(widened(mask, value.shape), value, math.nan)
            for name, value in found.items()
        }

    def _pointwise(self, u: Tensor) -> dict[str, Tensor]:
        with self._evaluating():
            trace = self._trace(u)[1]
            trace.compute_log_prob()
        nodes = sample_sites(trace)
        values = {name: nodes[_site_of(name, nodes)]["unscaled_log_prob"] for name in self.observations}
        return {name: seen.chosen(values[name]) for name, seen in self.observations.items()}

    def _over_rows(self, function: Callable[[Tensor], dict[str, Tensor]], u: Tensor) -> dict[str, Tensor]:
        """A function of one row, for rows of any leading shape, without gradients."""
        parts = []
        with torch.no_grad():
            for rows in u.double().reshape(-1, self.num_features).split(self.num_rows):
                if self.method == "vmap":
                    parts.append(torch.vmap(function)(rows))
                else:
                    each = [function(row) for row in rows]
                    parts.append({name: torch.stack([one[name] for one in each]) for name in each[0]})
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: value.reshape(*u.shape[:-1], *value.shape[1:]) for name, value in joined.items()}

    def _trace(self, u: Tensor) -> tuple[SiteValues, Trace]:
        reals = {name: self.layout.sites[name].reals(part) for name, part in self._parts(u).items()}
        handler = SiteValues(self.layout.sites, reals, fixed=self.layout.integrated)
        args, kwargs = self.arguments
        with handler:
            trace = poutine.trace(with_enumeration(self.model, self.layout)).get_trace(*args, **kwargs)
        return handler, trace

    def _parts(self, u: Tensor) -> dict[str, Tensor]:
        """Coordinates of each site, ``(*, numel)``."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        return dict(zip(self.shapes, u.split(sizes, -1), strict=True))

    def checked_trace(self, u: Tensor) -> Trace:
        """A run of the model at one row ``u``, with Pyro's checks of shapes where discrete sites are summed out.

        Raises:
            ValueError: discrete sites that cannot be summed out.
        """
        if not self.layout.enumerated:
            with self._evaluating():
                trace = self._trace(u)[1]
                trace.compute_log_prob()
            return trace
        try:
            with self._evaluating(), pyro.validation_enabled(True):
                trace = self._trace(u)[1]
                check_shapes(trace, self.layout)
                log_joint(trace, self.layout)
        except Exception as fault:  # Pyro and the model's own code raise errors of every kind here
            names, reason = ", ".join(self.layout.enumerated), " ".join(str(fault).splitlines()[:2])
            raise ValueError(
                f"the discrete latent sites {names} cannot be summed out together ({reason}): a model gets all values of "
                "such a site at once, so index by Vindex(x)[..., z] of pyro.ops.indexing, choose by torch.where in place of "
                "if, and declare independent rows by pyro.plate or .to_event"
            ) from fault
        return trace

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Float64, and no checks of values, which branch on them as vectorised maps cannot."""
        promotion = Promotion() if self.is_promoted else contextlib.nullcontext()
        with pyro.validation_enabled(False), double_by_default(), promotion:
            yield


@outside_inference_mode
def joint_density(model: Callable[..., Any], *args: Any, **kwargs: Any) -> EnergyDistribution:
    """The joint density of a Pyro model's latent sites as an unnormalised distribution on unconstrained vectors.

    Its normaliser is the model's evidence, see :func:`drl_density.evidence`, and ``run_chain`` with HMC runs many chains of
    the model in parallel. The ``log_density`` of the result is a :class:`JointDensity`, whose ``constrain`` maps draws back
    to the sites.

    How sites are treated:

    - Continuous sites of any support that has a bijection are coordinates. Improper priors are allowed and named.
    - Discrete sites are summed out by Pyro's parallel enumeration, with the rules of ``pyro.infer.config_enumerate``.
    - Discrete sites on which nothing depends, and the unobserved part of a site with ``obs_mask``, integrate to one.
    - Entries that a mask takes out of the model are left out. Where the rest of the model uses them, their prior is flat.

    How many rows are evaluated: by ``torch.vmap`` where the model allows it, else with the rows as one more dimension to the
    left of all batches, where that gives the values of single rows, else one after another, with a warning. Rows are taken
    in chunks whose gradients fit memory. All is computed in float64: arguments are cast, and so are float32 tensors of the
    model's own wherever they meet a site.

    Args:
        model: Pyro model whose sites have fixed shapes.
        args: positional arguments of the model.
        kwargs: keyword arguments of the model.

    Raises:
        ValueError: no continuous latent sites, a subsampled plate, a discrete site that cannot be summed out, a support
            without a bijection, random numbers outside the sites, or NaN.

    >>> import pyro.distributions as dist
    >>> def model():
    ...     return pyro.sample("scale", dist.Exponential(1.0))
    >>> target = joint_density(model)
    >>> target.log_prob(torch.zeros(1, 1).double()).tolist()  # exp(0) = 1: log density -1, log-Jacobian 0
    [-1.0]
    """
    arguments = (in_double(args), in_double(kwargs))
    with Promotion() as promotion, double_by_default():
        layout = examine_model(model, *arguments)
    joint = JointDensity(model, arguments, layout, {}, method="loop", is_promoted=True)
    generator = torch.Generator().manual_seed(0)
    rows = PROBE_SPREAD * torch.randn(NUM_PROBES, joint.num_features, generator=generator, dtype=torch.float64)
    trace = _checked_trace(joint, rows[0])
    joint = dataclasses.replace(joint, observations=find_observations(trace), factors=find_factors(trace))
    joint = dataclasses.replace(joint, is_promoted=promotion.count > 0)
    joint = _with_method(joint, rows)
    like = torch.empty(0, dtype=torch.float64)
    sampler = ChainSampler(num_warmup=500, num_steps=200)
    return EnergyDistribution(joint, (joint.num_features,), like=like, sampler=sampler)


def _site_of(name: str, nodes: Mapping[str, Any]) -> str:
    """The site that holds an observation: itself, or the observed half of a site with ``obs_mask``."""
    half = f"{name}_observed"
    return half if half in nodes and f"{name}_unobserved" in nodes else name


def _checked_trace(joint: JointDensity, row: Tensor) -> Trace:
    """A run of the model at one row.

    Raises:
        ValueError: discrete sites that cannot be summed out, random numbers outside the sites, or NaN.
    """
    trace = joint.checked_trace(row)
    before = torch.get_rng_state()
    values = [float(joint.one(row)) for _ in range(2)]
    if not torch.equal(before, torch.get_rng_state()) or (values[0] != values[1] and not math.isnan(values[0])):
        raise ValueError(
            "the model draws random numbers that are no latent site in view, so its density changes from call to call: draw "
            "them by pyro.sample, or outside of the model, and hide no latent site by pyro.poutine.block"
        )
    refuse_nan(trace)
    return trace


def _with_method(joint: JointDensity, rows: Tensor) -> JointDensity:
    """The same density, evaluated in the fastest way that agrees with one row after another."""
    methods: tuple[Method, ...] = ("vmap", "loop")
    ways: dict[Method, Callable[[Tensor], Tensor]]
    ways = {method: dataclasses.replace(joint, method=method).rows for method in methods}
    if not joint.layout.enumerated and all(site.present is None for site in joint.layout.sites.values()):
        ways["plate"] = dataclasses.replace(joint, method="plate").rows
    began = time.perf_counter()
    method, reason = choose_method(rows, ways)
    if method == "loop":
        milliseconds = 1000 * (time.perf_counter() - began) / len(rows)
        warnings.warn(
            f"the model cannot be evaluated for many particles at once ({reason}): they are evaluated one after another, "
            f"about {milliseconds:.2g} ms for each and step; write it without .item() and without branches on values, and "
            "declare independent rows by pyro.plate",
            DRLDensityWarning,
            stacklevel=4,  # the caller of joint_density, whose decorator is one level
        )
    shared = {tensor.untyped_storage().data_ptr() for tensor in tensors_in(joint.arguments)}
    num_rows = rows_per_chunk(graph_bytes(joint.one, rows[0], shared))
    return dataclasses.replace(joint, method=method, num_rows=num_rows)
