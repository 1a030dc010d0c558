"""Products, powers, quotients and mixtures of densities, each of which says whether it has a finite integral."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from drl_density.devices import globally_seeded
from drl_density.distributions.energy_distribution import ChainSampler, EnergyDistribution, SamplerPolicy
from drl_density.errors import NumericalError


class WeightedSum:
    """sum_i w_i log f_i over rows ``(n, *event)``: a picklable callable that keeps sight of the parameters."""

    def __init__(self, experts: Sequence[Any], weights: Sequence[float]) -> None:
        self.experts, self.weights = tuple(experts), tuple(weights)

    def __call__(self, x: Tensor) -> Tensor:
        terms = (w * log_density_of(expert)(x) for w, expert in zip(self.weights, self.experts, strict=True))
        return torch.stack(list(terms)).sum(0)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of all energies."""
        for expert in self.experts:
            if isinstance(expert, EnergyDistribution):
                yield from expert.energy_parameters()


def product(
    experts: Sequence[Any],
    *,
    weights: Sequence[float] | None = None,
    is_integrable: bool | None = None,
    sampler: SamplerPolicy | None = None,
) -> EnergyDistribution:
    r"""The product of experts :math:`\prod_i f_i(x)^{w_i}`, unnormalised; a negative weight divides.

    It is taken to be integrable when all weights are positive and sum to at least 1 while every expert's power of that sum
    is integrable (Hoelder's inequality): of bounded experts every power is, of fitted densities those below their
    ``largest_power``, as they may grow without limit at a column's bound. Quotients have to be declared by whoever can
    show it; :func:`guided` and :func:`excluding` know some that are.

    Args:
        experts: distributions of one event shape: Pyro's (taken to be bounded), fitted densities' ``distribution()``, or
            other energies.
        weights: one per expert; 1 each when not given.
        is_integrable: declare it where you can prove it.
        sampler: policy of ``sample``; adjusted chains begun at draws of the first expert when not given.

    Raises:
        ValueError: no experts, shapes that differ, or weights that do not fit.
        NumericalError: "improper", when a finite integral is neither shown nor declared.

    >>> both = product([dist.Normal(torch.zeros(2), 1.0).to_event(1), dist.Normal(torch.ones(2), 1.0).to_event(1)])
    >>> both.log_prob(torch.full((2,), 0.5)) > both.log_prob(torch.zeros(2))
    tensor(True)
    """
    experts = tuple(experts)
    weights = (1.0,) * len(experts) if weights is None else tuple(float(weight) for weight in weights)
    _check(experts, weights)
    total = sum(weights)
    power = min(
        (largest_power(expert) for expert, weight in zip(experts, weights, strict=True) if weight > 0), default=1
    )
    if is_integrable is None:
        all_proper = all(integrable(expert) for expert in experts)
        is_integrable = all_proper and min(weights) > 0 and total >= 1 - 1e-9 and (total <= 1 + 1e-9 or total < power)
    if not is_integrable:
        raise NumericalError(
            f"improper: a product with weights {weights} is not known to have a finite integral. Positive weights that sum "
            f"to at least 1 over integrable experts have, here up to a sum of {power:g}; for anything else declare "
            "is_integrable=True where you can prove it"
        )
    first = experts[0]
    return EnergyDistribution(
        WeightedSum(experts, weights),
        first.event_shape,
        support=first.support,
        sampler=ChainSampler(num_warmup=500, num_steps=200) if sampler is None else sampler,
        initial=_Draws(first),
        is_integrable=True,
        largest_power=max(1.0, power / max(1.0, total)),
    )


def tempered(expert: Any, temperature: float, *, is_integrable: bool | None = None) -> EnergyDistribution:
    """f(x)^(1 / temperature), unnormalised. Above 1 the tails grow, and integrability has to be declared.

    Args:
        expert: f.
        temperature: positive; below 1 sharpens, above 1 flattens.
        is_integrable: declare it where you can prove it.

    Raises:
        ValueError: a temperature that is not positive.
        NumericalError: as :func:`product`.

    >>> cold = tempered(dist.Normal(0.0, 1.0), 0.5)
    >>> float(cold.log_prob(torch.tensor(1.0)) - cold.log_prob(torch.tensor(0.0)))
    -1.0
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return product([expert], weights=[1 / temperature], is_integrable=is_integrable)


def guided(
    conditional: Any, unconditional: Any, weight: float, *, is_integrable: bool | None = None
) -> EnergyDistribution:
    r"""Classifier-free guidance as a density: :math:`p(x \mid y)\,(p(x \mid y) / p(x))^w`, energy (1 + w) conditional
    less w unconditional, drawn from by adjusted chains of exactly this density.

    It is integrable when ``unconditional`` is a :class:`Mixture` of which ``conditional`` is a component: the ratio is
    then at most 1 / pi. Anything else has to be declared: where p(x) has lighter tails than p(x | y), there is no integral.

    Args:
        conditional: p(x | y).
        unconditional: p(x).
        weight: w, not negative; 0 is the conditional itself.
        is_integrable: declare it where you can prove it.

    Raises:
        ValueError: a negative weight, or shapes that differ.
        NumericalError: "improper", when a finite integral is neither shown nor declared.

    Source: Ho and Salimans 2022, equation 6, there for scores at every noise level.

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
    expert: Any, unwanted: Any, *, weight: float = 1.0, floor: float | None = None, is_integrable: bool | None = None
) -> EnergyDistribution:
    r"""Negation: :math:`p(x) / (u(x) + \text{floor})^w`, the expert away from what is unwanted.

    With a floor the factor is at most floor^-w and the result integrable as the expert is. Without one the quotient
    explodes where u vanishes, and is refused unless declared.

    Args:
        expert: p.
        unwanted: u, a normalised density, so that the floor has its units.
        weight: w > 0.
        floor: a density below which nothing counts as unwanted.
        is_integrable: declare it where you can prove it.

    Raises:
        ValueError: weight or floor that is not positive, shapes that differ, or an unnormalised ``unwanted`` with a floor.
        NumericalError: "improper", when a finite integral is neither shown nor declared.

    Source: Du, Li and Mordatch 2020 (compositional energies); the floor is ours.

    >>> away = excluding(dist.Normal(0.0, 1.0), dist.Normal(0.0, 0.3), floor=0.05)
    >>> away.log_prob(torch.tensor(1.0)) > away.log_prob(torch.tensor(0.0))
    tensor(True)
    """
    if not (weight > 0 and (floor is None or floor > 0)):
        raise ValueError(f"weight and floor must be positive, got {weight} and {floor}")
    if floor is None:
        return product([expert, unwanted], weights=[1.0, -weight], is_integrable=bool(is_integrable))
    if not getattr(unwanted, "is_normalized", True):
        raise ValueError("the floor is a density: unwanted must be normalised; normalize() it")
    return product(
        [expert, _Floored(unwanted, floor)],
        weights=[1.0, -weight],
        is_integrable=integrable(expert) if is_integrable is None else is_integrable,
    )


class _Floored:
    """u(x) + floor, as an expert."""

    def __init__(self, density: Any, floor: float) -> None:
        self.density, self.floor = density, floor
        self.event_shape, self.batch_shape = density.event_shape, density.batch_shape

    def log_prob(self, value: Tensor) -> Tensor:
        """log (u + floor)."""
        inner = self.density.log_prob(value)
        return torch.logaddexp(inner, torch.full_like(inner, math.log(self.floor)))


class Mixture(dist.TorchDistribution):
    r""":math:`\sum_k \pi_k p_k(x)` of normalised components that need not be of one kind; draws are exact where theirs are.

    Args:
        components: normalised distributions of one event shape without batch shape.
        weights: positive, one per component; they are divided by their sum.

    Raises:
        ValueError: components that are not normalised, shapes that differ, or weights that do not fit.

    >>> Mixture([dist.Normal(0.0, 1.0), dist.Normal(3.0, 1.0)], [1.0, 3.0]).log_prob(torch.tensor(3.0)) > -1.3
    tensor(True)
    """

    arg_constraints: dict[str, Any] = {}
    has_rsample = False

    def __init__(self, components: Sequence[Any], weights: Sequence[float]) -> None:
        self.components = tuple(components)
        _check(self.components, tuple(weights))
        if not all(weight > 0 for weight in weights):
            raise ValueError(f"mixture weights must be positive, got {list(weights)}")
        open_ones = [i for i, part in enumerate(components) if not getattr(part, "is_normalized", True)]
        if open_ones:
            raise ValueError(
                f"components {open_ones} are not normalised: their weights would mean nothing; normalize() them"
            )
        total = math.fsum(weights)
        self.log_weights = torch.tensor([math.log(weight / total) for weight in weights])
        super().__init__(torch.Size(), self.components[0].event_shape, validate_args=False)

    @property
    def largest_power(self) -> float:
        """The least of the components', see :class:`~drl_density.EnergyDistribution`."""
        return min(largest_power(part) for part in self.components)

    @property
    def support(self) -> Any:
        """Of the first component."""
        return self.components[0].support

    def log_prob(self, value: Tensor) -> Tensor:
        """Normalised log density, shape ``sample_shape``."""
        parts = [part.log_prob(value) for part in self.components]
        return (torch.stack(parts, -1) + self.log_weights.to(parts[0])).logsumexp(-1)

    def class_log_prob(self, value: Tensor) -> Tensor:
        """log p(component | x), shape ``sample_shape + (components,)``: with one fitted density a class, a classifier.

        Args:
            value: points ``sample_shape + event_shape``.
        """
        parts = torch.stack([part.log_prob(value) for part in self.components], -1)
        return (parts + self.log_weights.to(parts)).log_softmax(-1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """A component by its weight, then a draw of it."""
        shape = torch.Size(sample_shape)
        chosen = torch.multinomial(self.log_weights.exp(), shape.numel(), replacement=True)
        draws = None
        for index, part in enumerate(self.components):
            place = (chosen == index).nonzero().flatten()
            if len(place):
                own = part.sample((len(place),))
                draws = own.new_zeros((shape.numel(), *self.event_shape)) if draws is None else draws
                draws[place] = own.to(draws)
        return draws.reshape(shape + self.event_shape)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Any:
        """Independent copies over ``batch_shape``."""
        return dist.ExpandedDistribution(self, torch.Size(batch_shape))


def integrable(expert: Any) -> bool:
    """Whether an expert is known to have a finite integral: normalised distributions, and energies that say so."""
    if isinstance(expert, EnergyDistribution):
        return expert.is_integrable
    return True


def largest_power(expert: Any) -> float:
    """Supremum of the powers of an expert that are known to have a finite integral; inf for what is bounded."""
    return getattr(expert, "largest_power", math.inf)


def log_density_of(expert: Any) -> Any:
    """The unnormalised log density where there is one, else ``log_prob``."""
    return expert.unnormalized_log_prob if hasattr(expert, "unnormalized_log_prob") else expert.log_prob


class _Draws:
    """Starting points: draws of a distribution."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __call__(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return self.source.sample((num_rows,))
        with globally_seeded(generator):
            return self.source.sample((num_rows,))


def _check(experts: tuple, weights: tuple[float, ...]) -> None:
    if not experts or len(experts) != len(weights):
        raise ValueError(
            f"expected as many weights as distributions, at least one, got {len(weights)} and {len(experts)}"
        )
    shapes = {tuple(expert.event_shape) for expert in experts}
    if len(shapes) > 1 or any(len(expert.batch_shape) for expert in experts):
        raise ValueError(f"expected one event shape and no batch shape, got event shapes {sorted(shapes)}")
