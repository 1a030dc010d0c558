"""The contract of distributions whose log density is known up to its normaliser.

Members draw by a sampler policy and state what ``log_prob`` means: ``normalization`` is "none", "learned" or "estimated",
and only "estimated" counts as normalised.
"""

from __future__ import annotations

import inspect
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Literal, Protocol, Self, get_args, runtime_checkable

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn

from drl_density.autograd import outside_inference_mode
from drl_density.distributions.sampling import ChainSampler, SampleResult, SamplerPolicy, SampleShape, as_shape
from drl_density.distributions.supports import InsideSupport, has_own_map
from drl_density.errors import DRLDensityWarning
from drl_density.mcmc import LogDensity

Normalization = Literal["none", "learned", "estimated"]
"""What ``log_prob`` subtracts: nothing, a constant learned in training, or an estimate of log Z."""
KnownNormalization = Literal["learned", "estimated"]


class HasLogZ(Protocol):
    """A record of an estimate of log Z, such as :class:`~drl_density.LogPartitionEstimate`, a sandwich or a report."""

    @property
    def log_z(self) -> float:
        """Point estimate of log Z, nats."""
        ...


@runtime_checkable
class HasParameters(Protocol):
    """A callable energy that lists its parameters, such as a module."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the energy."""
        ...


def parameters_of(log_density: LogDensity) -> Iterator[nn.Parameter]:
    """Parameters behind a log density: its own, or those of the object that it is a method of.

    >>> len(list(parameters_of(nn.Linear(2, 1)))), len(list(parameters_of(nn.Linear(2, 1).forward)))
    (2, 2)
    """
    owner = log_density.__self__ if inspect.ismethod(log_density) else log_density
    return iter(owner.parameters()) if isinstance(owner, HasParameters) else iter(())


def one_number_each(values: Any, x: Tensor) -> Tensor:
    """Values of a log density at points ``(n, *event)`` as a tensor ``(n,)``.

    Raises:
        ValueError: anything but one real number for each point; the message names the likely cause.

    >>> one_number_each(torch.zeros(3, 1), torch.ones(3, 2)).shape
    torch.Size([3])
    """
    found = torch.as_tensor(values)
    if found.is_complex():
        raise ValueError("expected a real log density, got complex values: take the real part where they are real")
    shape, count, event = tuple(found.shape), len(x), tuple(x.shape[1:])
    if found.numel() == count and (not shape or shape[0] == count):
        return found.reshape(count)
    if found.numel() == 1:
        cause = "it sums over the points too: sum over the dimensions of one point only, such as .sum(-1)"
    elif shape[:1] == (count,) and shape[1:] == event:
        cause = "one number for each coordinate: sum over the dimensions of one point, such as .sum(-1)"
    else:
        cause = "return one number for each of the points along the first dimension"
    raise ValueError(
        f"the log density must map points {(count, *event)} to values {(count,)}, it gave shape {shape}: {cause}"
    )


def real_support(event_shape: torch.Size) -> constraints.Constraint:
    """Support of all reals over events of the given shape."""
    return constraints.independent(constraints.real, len(event_shape))


class UnnormalizedDistribution(TorchDistribution):
    """A distribution with ``unnormalized_log_prob``, whose ``log_prob`` subtracts a normaliser that it names.

    A member adds a log density, starting points of chains, and ``expand``.

    Attributes:
        log_density: energy F, a map from rows ``(n, *event)`` to ``(n,)``.
        sampler: policy of ``sample``.
        normalization: what ``log_prob`` subtracts: "none", "learned" or "estimated".
        log_normalizer: constant that ``log_prob`` subtracts, nats; 0 for "none".
        estimate: record behind ``log_normalizer``, where there is one; its error is that of every ``log_prob``.
        last_result: draws and chain statistics of the last ``sample``.
    """

    has_rsample = False
    has_enumerate_support = False

    log_density: LogDensity
    sampler: SamplerPolicy
    normalization: Normalization = "none"
    log_normalizer: Tensor | float = 0.0
    estimate: HasLogZ | None = None
    last_result: SampleResult | None = None
    _event_support: constraints.Constraint

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """No parameters to check."""
        return {}

    @abstractmethod
    def _log_density(self, x: Tensor) -> Tensor:
        """Unnormalised log density of points ``sample_shape + batch_shape + event_shape``."""

    @abstractmethod
    def _initial(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        """Starting points of chains ``shape + event_shape``."""

    @abstractmethod
    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """A new object with another batch shape that shares the energy."""

    def energy_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the energy."""
        return parameters_of(self.log_density)

    def _take_settings(self, source: UnnormalizedDistribution, batch_shape: torch.Size) -> None:
        """Take over everything but the energy from a distribution that is being expanded."""
        self.log_density = source.log_density
        self.sampler, self._event_support = source.sampler, source._event_support
        self.normalization, self.log_normalizer = source.normalization, source.log_normalizer
        self.estimate, self.last_result = source.estimate, None
        TorchDistribution.__init__(self, batch_shape, source.event_shape, validate_args=False)
        self._validate_args = source._validate_args

    def _rows_log_density(self, x: Tensor) -> Tensor:
        """The energy F at points ``(*, *event)``, ``(*)``."""
        leading = x.shape[: x.ndim - self.event_dim]
        rows = x.reshape((-1, *self.event_shape))
        return one_number_each(self.log_density(rows), rows).reshape(leading)

    @property
    def support(self) -> constraints.Constraint:
        """Where the density is positive: all reals unless given."""
        return self._event_support

    @property
    def is_normalized(self) -> bool:
        """True when ``log_prob`` subtracts an estimate of log Z."""
        return self.normalization == "estimated"

    def unnormalized_log_prob(self, value: Tensor) -> Tensor:
        """Log density without any normaliser, ``sample_shape + batch_shape``.

        Raises:
            ValueError: values outside the support, when arguments are validated.
        """
        if self._validate_args and value.numel() and not torch.compiler.is_compiling():  # torch cannot check empty ones
            self._validate_sample(value)
        return self._log_density(value)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density less the normaliser that ``normalization`` names, ``sample_shape + batch_shape``.

        Warns when the energy's parameters require gradients. log Z depends on them and has no gradient here, so SVI or
        NUTS over a model with a live energy would learn the wrong thing.
        """
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            if any(parameter.requires_grad for parameter in self.energy_parameters()):
                warnings.warn(
                    "the energy's parameters require grad: log Z depends on them and is missing from log_prob, so "
                    "learning them by SVI or NUTS gives wrong results; freeze them (requires_grad_(False)), or train "
                    "them with drl_density.fit",
                    DRLDensityWarning,
                    stacklevel=2,
                )
        return self.unnormalized_log_prob(value) - self.log_normalizer

    @outside_inference_mode
    def normalize(self, log_z: float | Tensor | HasLogZ, *, normalization: KnownNormalization = "estimated") -> Self:
        """A copy whose ``log_prob`` subtracts log Z.

        Args:
            log_z: number, tensor, or record with ``log_z`` such as a sandwich or a report. A record is kept as
                ``estimate``.
            normalization: "estimated", or "learned" for the constants of noise-level classification.

        Raises:
            ValueError: a log Z that is not finite, or an unknown normalization.

        >>> from drl_density import EnergyDistribution
        >>> target = EnergyDistribution.from_log_density(lambda x: -0.5 * (x**2).sum(-1), event_shape=(2,))
        >>> round(float(target.normalize(1.8379).log_prob(torch.zeros(2))), 4)  # log(2 pi)
        -1.8379
        """
        if normalization not in get_args(KnownNormalization):
            raise ValueError(f'normalization must be "learned" or "estimated", got {normalization!r}')
        record = None if isinstance(log_z, float | int | Tensor) else log_z
        value = log_z if isinstance(log_z, float | int | Tensor) else log_z.log_z
        if not bool(torch.isfinite(torch.as_tensor(value)).all()):
            raise ValueError(f"log_z must be finite, got {value}; an improper or failed estimate cannot normalize")
        copy = self.expand(self.batch_shape)
        copy.log_normalizer, copy.normalization, copy.estimate = value, normalization, record
        return copy

    def with_sampler(self, sampler: SamplerPolicy) -> Self:
        """A copy that draws by another policy."""
        copy = self.expand(self.batch_shape)
        copy.sampler = sampler
        return copy

    def _policy(self) -> SamplerPolicy:
        """The sampler, with chains in the space that a support maps from, which keeps them inside."""
        if isinstance(self.sampler, ChainSampler) and has_own_map(self.support):
            return InsideSupport(self.sampler, self.support)
        return self.sampler

    @outside_inference_mode
    def run(self, sample_shape: SampleShape = (), *, generator: torch.Generator | None = None) -> SampleResult:
        """Draw, and return the statistics of the chains too.

        Args:
            sample_shape: number of draws, or shape of them.

        Returns:
            Draws ``sample_shape + batch_shape + event_shape`` with the statistics of their chains.
        """
        shape = as_shape(sample_shape) + self.batch_shape
        num_samples = shape.numel()

        def rows_log_density(rows: Tensor) -> Tensor:
            return self._log_density(rows.reshape(shape + self.event_shape)).reshape(num_samples)

        with torch.no_grad():
            initial = self._initial(shape, generator).reshape((num_samples, *self.event_shape))
            result = self._policy()(rows_log_density, initial, generator)
        return SampleResult(result.draws.reshape(shape + self.event_shape), result.stats)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        """Draw by the sampler policy, ``sample_shape + batch_shape + event_shape``.

        The statistics of the chains stay in ``last_result``.

        Args:
            sample_shape: number of draws, or shape of them.
        """
        self.last_result = self.run(sample_shape)
        return self.last_result.draws

    def _no_closed_form(self, name: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no closed-form {name}: estimate it from sample((n,))")

    @property
    def mean(self) -> Tensor:
        """Not available in closed form."""
        raise self._no_closed_form("mean")

    @property
    def variance(self) -> Tensor:
        """Not available in closed form."""
        raise self._no_closed_form("variance")

    def entropy(self) -> Tensor:
        """Not available in closed form."""
        raise self._no_closed_form("entropy")

    def cdf(self, value: Tensor) -> Tensor:
        """Not available in closed form."""
        raise self._no_closed_form("cdf")

    def __repr__(self) -> str:
        shapes = f"batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)}"
        return f"{type(self).__name__}({shapes}, normalization={self.normalization!r})"
