"""Energy-based models as Pyro distributions.

Two final classes share one contract: a log density that is known up to its normaliser, a sampler policy that draws by
adjusted Markov chains, and an explicit statement of what ``log_prob`` means (``normalization`` is "none", "learned" or
"estimated"; only "estimated" counts as normalized).
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn

from drl_density.devices import normal_draws
from drl_density.errors import DRLDensityWarning
from drl_density.mcmc import MALA, DualAveraging, Kernel, LogDensity, Recording, run_chain

NORMALIZATIONS = ("none", "learned", "estimated")


@dataclass(frozen=True)
class SampleResult:
    """Draws and the statistics of the chains that made them.

    Attributes:
        draws: shape ``(num_draws, *event)``, independent chains' final positions.
        stats: per kept step and chain, ``(step, chain)``: acceptance_rate, step_size, lp, energy_error, diverging.
    """

    draws: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)

    @property
    def acceptance_rate(self) -> float:
        """Mean acceptance over kept steps and chains; NaN when the draws came from a pool."""
        rate = self.stats.get("acceptance_rate")
        return float(rate.mean()) if rate is not None else math.nan


class SamplerPolicy(Protocol):
    """How a distribution draws: called with the log density of ``num_draws`` rows and their starting points."""

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """Draw one row per row of ``initial``, shape ``(num_draws, *event)``."""


@dataclass(frozen=True)
class ChainSampler:
    """One adjusted chain per draw: warm up with an adapted step size, freeze it, run on, keep the last state.

    Attributes:
        kernel: an adjusted kernel, MALA by default.
        num_warmup: adapting steps, thrown away.
        num_steps: steps with the frozen step size.
        step_size: where adaptation begins, in units of the kernel's scale.
        is_adapted: False keeps ``step_size`` as given.

    Raises:
        ValueError: an unadjusted kernel.

    >>> target = EnergyDistribution.from_log_density(lambda x: -0.5 * (x**2).sum(-1), event_shape=(2,))
    >>> target.with_sampler(ChainSampler(num_warmup=50, num_steps=20)).sample((4,)).shape
    torch.Size([4, 2])
    """

    kernel: Kernel = field(default_factory=MALA)
    num_warmup: int = 300
    num_steps: int = 100
    step_size: float = 0.3
    is_adapted: bool = True

    def __post_init__(self) -> None:
        if not self.kernel.is_adjusted:
            raise ValueError(
                f"expected an adjusted kernel such as MALA() or HMC(4), got {self.kernel}: its draws are biased"
            )

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """Run the chains; see :class:`SamplerPolicy`."""
        adaptation = DualAveraging(self.kernel.target_acceptance) if self.is_adapted else None
        result = run_chain(
            self.kernel,
            log_density,
            initial,
            num_steps=self.num_steps,
            step_size=self.step_size,
            num_warmup=self.num_warmup,
            adaptation=adaptation,
            recording=Recording(keep_draws=False),
            generator=generator,
        )
        return SampleResult(result.final_state.position, result.stats)


class _UnnormalizedDistribution(TorchDistribution):
    """The shared contract; ``_rows_log_density`` is all that a member adds."""

    arg_constraints: dict[str, Any] = {}
    has_rsample = False
    has_enumerate_support = False

    sampler: SamplerPolicy
    normalization: str
    log_normalizer: Tensor | float
    estimate: Any = None
    last_result: SampleResult | None
    _event_support: Any

    @abstractmethod
    def _log_density(self, x: Tensor) -> Tensor:
        """Unnormalised log density of ``x``, shape ``sample_shape + batch_shape + event_shape``."""

    @abstractmethod
    def _initial(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        """Starting points of chains, shape ``shape + event_shape``."""

    @abstractmethod
    def energy_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the energy."""

    def _copy_settings(self, source: _UnnormalizedDistribution) -> None:
        for name in ("sampler", "normalization", "log_normalizer", "estimate", "_event_support"):
            setattr(self, name, getattr(source, name))
        self.last_result = None

    @property
    def support(self) -> constraints.Constraint:
        """Where the density is positive: all reals unless given."""
        return self._event_support

    @property
    def is_normalized(self) -> bool:
        """True when ``log_prob`` subtracts an estimated log normaliser."""
        return self.normalization == "estimated"

    def unnormalized_log_prob(self, value: Tensor) -> Tensor:
        """log density without any normaliser, shape ``sample_shape + batch_shape``."""
        if self._validate_args and not torch.compiler.is_compiling():
            self._validate_sample(value)
        return self._log_density(value)

    def log_prob(self, value: Tensor) -> Tensor:
        """``unnormalized_log_prob`` less the log normaliser that ``normalization`` names (0 for "none").

        Warns when the energy's parameters would get a gradient from here: log Z depends on them and is missing, so SVI
        or NUTS over a model with a live energy learns the wrong thing.
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

    def normalize(self, log_z: Any, *, normalization: str = "estimated") -> Any:
        """A copy whose ``log_prob`` subtracts ``log_z``.

        Args:
            log_z: a number, a tensor, a ``LogPartitionEstimate`` (its ``value``) or a report (its ``log_z``); such a
                record is kept as ``estimate``, whose error is that of every ``log_prob``.
            normalization: "estimated", or "learned" for the constants of noise-level classification.

        Raises:
            ValueError: if log_z is not finite.
        """
        if normalization not in NORMALIZATIONS[1:]:
            raise ValueError(f'normalization must be "learned" or "estimated", got {normalization!r}')
        record = None if isinstance(log_z, float | int | Tensor) else log_z
        for attribute in ("log_z", "value"):
            log_z = getattr(log_z, attribute, log_z)
        if not bool(torch.isfinite(torch.as_tensor(log_z)).all()):
            raise ValueError(f"log_z must be finite, got {log_z}; an improper or failed estimate cannot normalize")
        copy = self.expand(self.batch_shape)
        copy.log_normalizer, copy.normalization, copy.estimate = log_z, normalization, record
        return copy

    def with_sampler(self, sampler: SamplerPolicy) -> Any:
        """A copy that draws with another policy."""
        copy = self.expand(self.batch_shape)
        copy.sampler = sampler
        return copy

    def run(
        self, sample_shape: torch.Size | tuple[int, ...] = (), *, generator: torch.Generator | None = None
    ) -> SampleResult:
        """Draw and return the chains' statistics too; ``draws`` has shape ``sample_shape + batch_shape + event_shape``."""
        shape = torch.Size(sample_shape) + self.batch_shape
        num_draws = shape.numel()

        def rows_log_density(rows: Tensor) -> Tensor:
            return self._log_density(rows.reshape(shape + self.event_shape)).reshape(num_draws)

        with torch.no_grad():
            initial = self._initial(shape, generator).reshape((num_draws, *self.event_shape))
            result = self.sampler(rows_log_density, initial, generator)
        return SampleResult(result.draws.reshape(shape + self.event_shape), result.stats)

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = torch.Size()) -> Tensor:  # noqa: B008
        """Draw by the sampler policy; the statistics stay in ``last_result``."""
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


def _real(event_shape: torch.Size) -> constraints.Constraint:
    return constraints.independent(constraints.real, len(event_shape))


class EnergyDistribution(_UnnormalizedDistribution):
    r"""An unnormalised density :math:`p(x) = \exp(F(x)) / Z` with an unknown :math:`Z`.

    Args:
        log_density: F, maps rows ``(n, *event)`` to ``(n,)``.
        event_shape: shape of one point.
        support: constraint of the event; all reals by default.
        sampler: policy of ``sample``; adjusted chains by default.
        initial: draws starting points, ``initial(num_rows, generator) -> (num_rows, *event)``; N(0, I) by default.
        like: tensor whose dtype and device starting points take.
        is_integrable: declare that exp(F) has a finite integral; combinators ask for it.
        largest_power: supremum of the powers w >= 1 for which exp(w F) has one too; all of them where exp(F) is bounded.
        validate_args: whether values are checked against the support; Pyro's own choice when not given.

    >>> target = EnergyDistribution.from_log_density(lambda x: -0.5 * (x**2).sum(-1), event_shape=(2,))
    >>> target.log_prob(torch.ones(3, 2)).tolist()
    [-1.0, -1.0, -1.0]
    >>> target.normalize(math.log(2 * math.pi)).is_normalized
    True
    """

    def __init__(
        self,
        log_density: LogDensity,
        event_shape: tuple[int, ...] | torch.Size,
        *,
        support: constraints.Constraint | None = None,
        sampler: SamplerPolicy | None = None,
        initial: Callable[[int, torch.Generator | None], Tensor] | None = None,
        like: Tensor | None = None,
        is_integrable: bool = False,
        largest_power: float = math.inf,
        validate_args: bool | None = None,
    ) -> None:
        event_shape = torch.Size(event_shape)
        self.log_density = log_density
        self.is_integrable, self.largest_power = is_integrable, largest_power
        self.initial = initial
        self._like = torch.empty(0) if like is None else like.new_empty(0)
        self.sampler = ChainSampler() if sampler is None else sampler
        self._event_support = _real(event_shape) if support is None else support
        self.normalization, self.log_normalizer, self.last_result = "none", 0.0, None
        super().__init__(torch.Size(), event_shape, validate_args=validate_args)

    @classmethod
    def from_log_density(
        cls, function: LogDensity, event_shape: tuple[int, ...], *, support: constraints.Constraint | None = None
    ) -> EnergyDistribution:
        """Wrap any function that maps ``(*, *event)`` to ``(*,)``.

        Args:
            function: the unnormalised log density.
            event_shape: shape of one point.
            support: constraint of the event; all reals by default.
        """
        return cls(function, event_shape, support=support)

    def expand(self, batch_shape: torch.Size, _instance: EnergyDistribution | None = None) -> EnergyDistribution:
        """A new object with ``batch_shape`` that shares the energy."""
        new = self._get_checked_instance(EnergyDistribution, _instance)
        new.log_density, new.initial, new._like = self.log_density, self.initial, self._like
        new.is_integrable, new.largest_power = self.is_integrable, self.largest_power
        new._copy_settings(self)
        super(EnergyDistribution, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _log_density(self, x: Tensor) -> Tensor:
        rows_shape = torch.broadcast_shapes(x.shape[: x.ndim - self.event_dim], self.batch_shape)
        leading = x.shape[: x.ndim - self.event_dim]
        values = self.log_density(x.reshape((-1, *self.event_shape))).reshape(leading)
        return values.expand(rows_shape)

    def _initial(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        if self.initial is not None:
            return self.initial(shape.numel(), generator)
        noise = normal_draws(shape + self.event_shape, self._like, generator)
        return constraints_transform(self.support)(noise)

    def energy_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the energy."""
        owner = getattr(self.log_density, "__self__", self.log_density)
        return owner.parameters() if hasattr(owner, "parameters") else iter(())


class RecoveryDistribution(_UnnormalizedDistribution):
    r"""The recovery conditional of a cleaner level given a noisier state, up to its normaliser:

    .. math:: \log p(x_t \mid x_{t+1}) = F_t(x_t) - \frac{\lVert x_{t+1} - a\,x_t\rVert^2}{2 s^2} + \text{const}.

    The batch shape is that of ``x_noisier``: one conditional per row. Chains start at ``x_noisier`` and use the kernel's
    step size in units of the conditional's scale (a^2 / s^2 + 1 / sigma_t^2)^(-1/2).

    Args:
        log_density: F_t, maps rows ``(n, *event)`` to ``(n,)``.
        x_noisier: the state one or several levels up, shape ``batch_shape + event_shape``.
        step_alpha: a.
        step_sigma: s.
        sampler: policy of ``sample``.
        event_dim: number of event dimensions.
        validate_args: whether values are checked to be real; Pyro's own choice when not given.

    Source: Gao et al. 2021, equation 5 (there in y = a x).

    >>> step = RecoveryDistribution(lambda x: -0.5 * (x**2).sum(-1), torch.ones(4, 2), 0.8, 0.6)
    >>> step.batch_shape, step.event_shape
    (torch.Size([4]), torch.Size([2]))
    """

    def __init__(
        self,
        log_density: LogDensity,
        x_noisier: Tensor,
        step_alpha: float | Tensor,
        step_sigma: float | Tensor,
        *,
        sampler: SamplerPolicy | None = None,
        event_dim: int = 1,
        validate_args: bool | None = None,
    ) -> None:
        self.log_density = log_density
        self.x_noisier = x_noisier
        self.step_alpha, self.step_sigma = float(step_alpha), float(step_sigma)
        self.sampler = ChainSampler(num_warmup=100, num_steps=50) if sampler is None else sampler
        split = x_noisier.ndim - event_dim
        event_shape = x_noisier.shape[split:]
        self._event_support = _real(event_shape)
        self.normalization, self.log_normalizer, self.last_result = "none", 0.0, None
        super().__init__(x_noisier.shape[:split], event_shape, validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: RecoveryDistribution | None = None) -> RecoveryDistribution:
        """A new object whose conditioning states are broadcast to ``batch_shape``."""
        new = self._get_checked_instance(RecoveryDistribution, _instance)
        batch_shape = torch.Size(batch_shape)
        new.log_density, new.step_alpha, new.step_sigma = self.log_density, self.step_alpha, self.step_sigma
        new.x_noisier = self.x_noisier.expand(batch_shape + self.event_shape)
        new._copy_settings(self)
        super(RecoveryDistribution, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _log_density(self, x: Tensor) -> Tensor:
        leading = x.shape[: x.ndim - self.event_dim]
        values = self.log_density(x.reshape((-1, *self.event_shape))).reshape(leading)
        residual = (self.x_noisier - self.step_alpha * x) / self.step_sigma
        return values - 0.5 * residual.square().flatten(residual.ndim - self.event_dim).sum(-1)

    def _initial(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return self.x_noisier.expand(shape + self.event_shape)

    def energy_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the energy."""
        owner = getattr(self.log_density, "__self__", self.log_density)
        return owner.parameters() if hasattr(owner, "parameters") else iter(())


def constraints_transform(support: constraints.Constraint) -> Callable[[Tensor], Tensor]:
    """The map from all reals onto ``support``, as Pyro's own kernels use it."""
    return torch.distributions.biject_to(support)
