"""Products, powers and quotients of densities, each of which states whether it has a finite integral."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drl_density.devices import globally_seeded
from drl_density.distributions.energy import EnergyDistribution
from drl_density.distributions.experts import (
    Expert,
    Factor,
    check_experts,
    integrable,
    largest_power,
    log_density_of,
    normalized,
)
from drl_density.distributions.fitted_support import FittedSupport, intersection_of
from drl_density.distributions.mixture import Mixture
from drl_density.distributions.sampling import ChainSampler, SamplerPolicy
from drl_density.distributions.supports import is_whole_space
from drl_density.errors import NumericalError


class WeightedSum:
    """Sum of weighted log densities over rows ``(n, *event)``.

    A callable object rather than a function, so that it can be pickled and lists the parameters of its energies.

    Args:
        experts: densities f_i of one event shape.
        weights: weight w_i of each density.
    """

    def __init__(self, experts: Sequence[Factor], weights: Sequence[float]) -> None:
        self.experts, self.weights = tuple(experts), tuple(weights)

    def __call__(self, x: Tensor) -> Tensor:
        parts = zip(self.weights, map(log_density_of, self.experts), strict=True)
        terms = [(weight, log_density(x)) for weight, log_density in parts]
        total = torch.stack([weight * values for weight, values in terms]).sum(0)
        for weight, values in terms:
            if weight > 0:  # where a factor is zero the product is, whatever the quotients do there
                total = total.masked_fill(values == -math.inf, -math.inf)
        return total

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of all energies among the densities."""
        for expert in self.experts:
            if isinstance(expert, EnergyDistribution):
                yield from expert.energy_parameters()


def product(
    experts: Sequence[Expert],
    *,
    weights: Sequence[float] | None = None,
    is_integrable: bool | None = None,
    sampler: SamplerPolicy | None = None,
) -> EnergyDistribution:
    r"""The product of experts :math:`\prod_i f_i(x)^{w_i}`, unnormalised; a negative weight divides.

    By Hoelder's inequality the product is integrable when all weights are positive and sum to at least 1, and every
    expert's power of that sum is integrable. Every power of a bounded expert is. Fitted densities may grow without limit at
    a column's bound, so only powers below their ``largest_power`` are. A quotient has to be declared integrable by whoever
    can prove it; :func:`guided` and :func:`excluding` cover some that are.

    Args:
        experts: distributions of one event shape: Pyro's (taken to be bounded), those of fitted densities, or other
            energies.
        weights: weight w_i of each expert; 1 each when not given.
        is_integrable: declares the product integrable, or not, where you can prove it.
        sampler: policy of ``sample``; adjusted chains that start from draws of the first expert when not given.

    Raises:
        ValueError: no experts, shapes that differ, or weights that do not fit.
        NumericalError: an improper product, whose finite integral is neither shown nor declared.

    >>> import pyro.distributions as dist
    >>> both = product([dist.Normal(torch.zeros(2), 1.0).to_event(1), dist.Normal(torch.ones(2), 1.0).to_event(1)])
    >>> both.log_prob(torch.full((2,), 0.5)) > both.log_prob(torch.zeros(2))
    tensor(True)
    """
    exponents = (1.0,) * len(experts) if weights is None else tuple(float(weight) for weight in weights)
    check_experts(experts, exponents)
    return _weighted_product(experts[0], experts, exponents, is_integrable=is_integrable, sampler=sampler)


def _weighted_product(
    first: Expert,
    factors: Sequence[Factor],
    weights: tuple[float, ...],
    *,
    is_integrable: bool | None,
    sampler: SamplerPolicy | None = None,
) -> EnergyDistribution:
    """The product of checked factors, with support and starting points from the first expert."""
    total = sum(weights)
    power = min(
        (largest_power(factor) for factor, weight in zip(factors, weights, strict=True) if weight > 0), default=1
    )
    if is_integrable is None:
        all_proper = all(integrable(factor) for factor in factors)
        # Weights such as 0.1 + 0.9 may sum to 1 only up to rounding.
        is_integrable = all_proper and min(weights) > 0 and total >= 1 - 1e-9 and (total <= 1 + 1e-9 or total < power)
    if not is_integrable:
        raise NumericalError(
            f"improper: a product with weights {weights} is not known to have a finite integral. Positive weights that sum "
            f"to at least 1 over integrable experts have, here up to a sum of {power:g}; for anything else declare "
            "is_integrable=True where you can prove it"
        )
    return EnergyDistribution(
        WeightedSum(factors, weights),
        first.event_shape,
        support=_common_support(factors, weights, first.support),
        sampler=ChainSampler(num_warmup=500, num_steps=200) if sampler is None else sampler,
        initial=_Draws(first, WeightedSum(factors, weights)),
        is_integrable=True,
        largest_power=max(1.0, power / max(1.0, total)),
    )


def tempered(expert: Expert, temperature: float, *, is_integrable: bool | None = None) -> EnergyDistribution:
    """The power f(x)^(1 / temperature), unnormalised.

    A temperature below 1 sharpens. One above 1 flattens: the tails grow, and integrability has to be declared.

    Args:
        expert: density f that is raised to a power.
        temperature: positive number whose inverse is the power.
        is_integrable: declares the power integrable, or not, where you can prove it.

    Raises:
        ValueError: a temperature that is not positive.
        NumericalError: an improper power, as in :func:`product`.

    >>> import pyro.distributions as dist
    >>> cold = tempered(dist.Normal(0.0, 1.0), 0.5)
    >>> float(cold.log_prob(torch.tensor(1.0)) - cold.log_prob(torch.tensor(0.0)))
    -1.0
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return product([expert], weights=[1 / temperature], is_integrable=is_integrable)


def guided(
    conditional: Expert, unconditional: Expert, weight: float, *, is_integrable: bool | None = None
) -> EnergyDistribution:
    r"""Classifier-free guidance as a density: :math:`p(x \mid y)\,(p(x \mid y) / p(x))^w`.

    Its energy is (1 + w) times the conditional's less w times the unconditional's, and adjusted chains sample exactly this
    density. It is integrable when ``unconditional`` is a :class:`Mixture` of which ``conditional`` is a component, since
    the ratio is then at most 1 / pi. Anything else has to be declared: where p(x) has lighter tails than p(x | y), there is
    no integral.

    Args:
        conditional: density p(x | y) of one class, or under one condition.
        unconditional: density p(x) of everything.
        weight: weight w, not negative; 0 gives the conditional itself.
        is_integrable: declares the result integrable, or not, where you can prove it.

    Raises:
        ValueError: a negative weight, or shapes that differ.
        NumericalError: an improper result, whose finite integral is neither shown nor declared.

    Source: Ho and Salimans 2022, equation 6, there for scores at every noise level.

    >>> import pyro.distributions as dist
    >>> classes = [dist.Normal(-1.0, 1.0), dist.Normal(1.0, 1.0)]
    >>> sharper = guided(classes[1], Mixture(classes, [1.0, 1.0]), 2.0)
    >>> sharper.log_prob(torch.tensor(1.3)) > sharper.log_prob(torch.tensor(1.0))
    tensor(True)
    """
    if not weight >= 0:
        raise ValueError(f"the weight of guidance must not be negative, got {weight}")
    if is_integrable is None:
        parts = unconditional.components if isinstance(unconditional, Mixture) else ()
        is_bounded = any(part is conditional for part in parts)
        is_integrable = integrable(conditional) and (weight == 0 or is_bounded)
    return product([conditional, unconditional], weights=[1 + weight, -weight], is_integrable=is_integrable)


def excluding(
    expert: Expert,
    unwanted: Expert,
    *,
    weight: float = 1.0,
    floor: float | None = None,
    is_integrable: bool | None = None,
) -> EnergyDistribution:
    r"""The density p away from an unwanted one u: :math:`p(x) / (u(x) + \text{floor})^w`, unnormalised.

    With a floor the factor is at most floor^-w, and the result is integrable when the expert is. Without one the quotient
    explodes where u vanishes, and is refused unless declared integrable.

    Args:
        expert: density p that is kept where nothing is unwanted.
        unwanted: normalised density u, so that the floor has its units.
        weight: strength w > 0 of the negation.
        floor: density below which nothing counts as unwanted.
        is_integrable: declares the result integrable, or not, where you can prove it.

    Raises:
        ValueError: a weight or floor that is not positive, shapes that differ, or an unnormalised ``unwanted`` with a
            floor.
        NumericalError: an improper result, whose finite integral is neither shown nor declared.

    Source: Du, Li and Mordatch 2020 (compositional energies); the floor is ours.

    >>> import pyro.distributions as dist
    >>> away = excluding(dist.Normal(0.0, 1.0), dist.Normal(0.0, 0.3), floor=0.05)
    >>> away.log_prob(torch.tensor(1.0)) > away.log_prob(torch.tensor(0.0))
    tensor(True)
    """
    if not (weight > 0 and (floor is None or floor > 0)):
        raise ValueError(f"weight and floor must be positive, got {weight} and {floor}")
    if floor is None:
        return product([expert, unwanted], weights=[1.0, -weight], is_integrable=bool(is_integrable))
    if not normalized(unwanted):
        raise ValueError("the floor is a density: unwanted must be normalised; normalize() it")
    factors, weights = (expert, _Floored(unwanted, floor)), (1.0, -weight)
    check_experts(factors, weights)
    is_proper = integrable(expert) if is_integrable is None else is_integrable
    return _weighted_product(expert, factors, weights, is_integrable=is_proper)


class _Floored:
    """The density u(x) + floor, as a factor."""

    def __init__(self, density: Factor, floor: float) -> None:
        self.density, self.floor = density, floor
        self.event_shape, self.batch_shape = density.event_shape, density.batch_shape

    def log_prob(self, value: Tensor) -> Tensor:
        """Logarithm of u + floor."""
        inner = self.density.log_prob(value)
        return torch.logaddexp(inner, torch.full_like(inner, math.log(self.floor)))


def _common_support(factors: Sequence[Factor], weights: Sequence[float], first: Any) -> Any:
    """The support of the first expert that does not cover the whole space, within those of all fitted ones.

    Where the others end inside it, the density has zeros there.
    """
    pairs = zip(factors, weights, strict=True)
    supports = [first, *(getattr(factor, "support", first) for factor, weight in pairs if weight > 0)]
    fitted = [support for support in supports if isinstance(support, FittedSupport)]
    common = intersection_of(fitted) if fitted else None
    bounded = [support for support in supports if not is_whole_space(support)]
    if common is not None and all(isinstance(support, FittedSupport) for support in bounded):
        return common
    return next(iter(bounded), first)


class _Draws:
    """Starting points of chains: draws of a distribution at which the target's density is positive."""

    def __init__(self, source: Expert, target: WeightedSum) -> None:
        self.source, self.target = source, target

    def __call__(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return self._draw(num_rows)
        with globally_seeded(generator):
            return self._draw(num_rows)

    def _draw(self, num_rows: int) -> Tensor:
        """Draws until there are enough, then those that there are, in turn.

        Raises:
            NumericalError: no draw has a positive density.
        """
        found = self._positive(num_rows)
        for _ in range(MOST_BATCHES):
            if len(found) >= num_rows:
                return found[:num_rows]
            found = torch.cat([found, self._positive(max(num_rows, LEAST_BATCH)).to(found)])
        if not len(found):
            raise NumericalError(
                "no draw of the first expert has a positive density under all experts, so chains have no place to start: "
                "the experts may not overlap, or the first one is the widest by far"
            )
        return found[torch.arange(num_rows) % len(found)]

    def _positive(self, num_rows: int) -> Tensor:
        rows = self.source.sample((num_rows,))
        return rows[self.target(rows).isfinite()] if num_rows else rows


MOST_BATCHES, LEAST_BATCH = 20, 64
"""Further batches of draws in search of starting points, and the least size of each."""
