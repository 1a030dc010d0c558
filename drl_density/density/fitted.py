"""The object a user holds: a sequence of energy-based models together with the map from data space."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from drl_density.datasets import Column
from drl_density.density.settings import FitSettings
from drl_density.distributions import EnergyDistribution, LogDensity, SampleResult, SamplerPolicy
from drl_density.errors import UnreliableEstimateWarning
from drl_density.model import EnergySequence
from drl_density.samplers import ConditionalSettings, ProgressivePlan, ProgressiveSampler
from drl_density.weights import LogPartitionEstimate

if TYPE_CHECKING:
    from drl_density.density.conditional import Imputation, MarginalDensity
    from drl_density.density.diagnosis import Diagnosis
    from drl_density.density.likelihood_report import LikelihoodReport
    from drl_density.density.posterior import Posterior
    from drl_density.mcmc import Kernel
    from drl_density.partition import AISSettings, SandwichSettings


class DataLogDensity:
    r"""log density in data units: :math:`F_0(T(x)) + \log\lvert\det J_T(x)\rvert`, unnormalised.

    A picklable callable over rows ``(n, *event)``.
    """

    def __init__(self, model: EnergySequence, transform: Transform) -> None:
        self.model, self.transform = model, transform

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], -1)
        u = self.transform(flat)
        return self.model.log_density(u, 0) + self.transform.log_abs_det_jacobian(flat, u)

    def parameters(self) -> Any:
        """Parameters of the energy."""
        return self.model.network.parameters()


class PooledSampler:
    """Serves small requests from stored draws, each draw once, and larger ones from the sampler behind it.

    Pyro draws single values to learn shapes; those must cost nothing.
    """

    def __init__(self, pool: Tensor, sampler: SamplerPolicy, *, largest: int = 16) -> None:
        self.pool, self.sampler, self.largest = pool, sampler, largest
        self.num_used = 0

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """One draw per row of ``initial``."""
        num_draws = len(initial)
        if generator is None and num_draws <= self.largest and self.num_used + num_draws <= len(self.pool):
            taken = self.pool[self.num_used : self.num_used + num_draws]
            self.num_used += num_draws
            return SampleResult(taken.to(initial).reshape(initial.shape))
        return self.sampler(log_density, initial, generator)


@dataclass(frozen=True)
class Baselines:
    """Validation log-likelihoods, nats per row in data units, of the model and of the floor it must beat.

    Attributes:
        model: the fitted sequence, normalised by annealed importance sampling.
        gaussian: a full-covariance Gaussian in model space.
        independent: independent column marginals.
    """

    model: float
    gaussian: float
    independent: float

    @property
    def is_above_floor(self) -> bool:
        """True when the model beats both references."""
        return self.model >= max(self.gaussian, self.independent)


@dataclass(frozen=True)
class Density:
    """A fitted density: sequence of models, data transform, log Z estimate, and how they came about.

    Attributes:
        model: the :class:`EnergySequence` in model space; its level 0 is the reported density.
        transform: torch ``Transform`` from flat data rows ``(n, d)`` to model space.
        estimate: log Z of level 0 in model space, with its error and verdict.
        event_shape: shape of one data point.
        columns: what was noticed about each column.
        settings: resolved settings of the fit.
        plan: step sizes of the progressive sampler.
        pool: stored draws in data units ``(n, d)``.
        baselines: validation figures.
        history: training history over ``step`` and ``level``.
        details: seed, source, chosen level, label of the likelihood, forecasts.
    """

    model: EnergySequence
    transform: Transform
    estimate: LogPartitionEstimate
    event_shape: tuple[int, ...]
    columns: tuple[Column, ...]
    settings: FitSettings
    plan: ProgressivePlan
    pool: Tensor
    baselines: Baselines
    history: xr.Dataset
    details: dict[str, Any] = field(default_factory=dict)

    def distribution(self) -> EnergyDistribution:
        """The density in data units as a Pyro distribution holding a frozen copy of the weights.

        ``log_prob`` is normalised by the estimate made at the end of the fit (``normalization`` is "estimated");
        small ``sample`` requests come from the stored pool, larger ones run the progressive sampler.
        """
        if not self.estimate.is_reliable:
            warnings.warn(
                f"log Z of this density is {self.estimate.verdict}: {self.estimate.advice}",
                UnreliableEstimateWarning,
                stacklevel=2,
            )
        model = freeze(copy.deepcopy(self.model))
        event_shape = torch.Size(self.event_shape)

        pooled = PooledSampler(self.pool, ProgressiveSampler(model, self.plan, ToData(self.transform, event_shape)))
        target = EnergyDistribution(
            DataLogDensity(model, self.transform),
            event_shape,
            support=self._support(),
            sampler=pooled,
            initial=_Blank(event_shape),
            is_integrable=model.is_integrable,
        )
        return target.normalize(self.estimate)

    def _support(self) -> constraints.Constraint | None:
        bounds = getattr(self.transform, "bounds", None)
        return bounded_support(*bounds) if bounds is not None and len(self.event_shape) == 1 else None

    def log_prob(self, x: Tensor) -> Tensor:
        """Normalised log density of rows ``(n, *event)`` in data units, nats, float64, shape ``(n,)``;
        -inf outside declared bounds.
        """
        rows = torch.as_tensor(x, dtype=torch.float64).reshape(-1, torch.Size(self.event_shape).numel())
        target = DataLogDensity(self.model, self.transform)
        with torch.no_grad():
            parts = [target(chunk) for chunk in rows.split(16384)]
        return torch.where(self._is_inside(rows), torch.cat(parts) - self.estimate.value, -math.inf)

    def _is_inside(self, rows: Tensor) -> Tensor:
        bounds = getattr(self.transform, "bounds", None)
        if bounds is None:
            return torch.ones(len(rows), dtype=torch.bool)
        return ((rows > bounds[0]) & (rows < bounds[1])).all(1)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Fresh draws ``(num_samples, *event)`` in data units by the progressive sampler."""
        return self.run(num_samples, generator=generator).draws

    def run(self, num_samples: int, *, generator: torch.Generator | None = None) -> SampleResult:
        """Fresh draws with the statistics of their chains."""
        event_shape = torch.Size(self.event_shape)
        sampler = ProgressiveSampler(self.model, self.plan, ToData(self.transform, event_shape))
        like = torch.empty((num_samples, *event_shape), dtype=torch.float64)
        return sampler(self.log_prob, like, generator)

    def evaluate(
        self,
        x: Tensor,
        *,
        seed: int = 0,
        settings: SandwichSettings | None = None,
        start_rows: Tensor | None = None,
        progress: bool = False,
    ) -> LikelihoodReport:
        """Likelihood of rows with the two-sided interval of log Z and a verdict.

        Args:
            x: rows ``(n, *event)`` in data units; columns all of whose values stand on the column's rounding grid are
                dequantised once.
            seed: of the run.
            settings: sizes of the sandwich.
            start_rows: rows at which the second set of chains begins; ``x`` when not given.
            progress: show a live line "log Z = a ± b, ESS c" on standard error.

        Returns:
            :class:`~drl_density.density.likelihood_report.LikelihoodReport`.

        Raises:
            DataError: rows of another shape, NaN or infinite values, or no rows.
        """
        from drl_density.density.evaluation import evaluate

        return evaluate(self, x, seed=seed, settings=settings, start_rows=start_rows, progress=progress)

    def condition(
        self,
        given: Mapping[int | str, float] | Tensor,
        *,
        normalize: bool = False,
        seed: int | None = None,
        settings: ConditionalSettings | None = None,
    ) -> EnergyDistribution:
        """The distribution of the other columns given some, over vectors in the columns' order, in data units.

        Args:
            given: ``{index or name: value}``, or a point with NaN where values are missing (images: a masked image).
            normalize: estimate the slice's normaliser, so that ``log_prob`` is the conditional density.
            seed: of that estimate.
            settings: sizes.

        Returns:
            A Pyro distribution; its ``sample`` runs sequential Monte Carlo down the noise levels, which finds separated
            modes with their weights, and ends with adjusted chains whose R-hat stands in ``last_result.stats``.

        Raises:
            DataError: unknown columns, values out of bounds, everything or nothing given, or a transform that mixes
                columns.
        """
        from drl_density.density.conditional import condition

        return condition(self, given, normalize=normalize, seed=seed, settings=settings)

    def marginal(
        self, columns: Sequence[int | str], *, settings: ConditionalSettings | None = None, seed: int = 0
    ) -> MarginalDensity:
        """The density of ``columns`` alone; ``.log_prob_and_error(x)`` integrates the others out for every row."""
        from drl_density.density.conditional import marginal

        return marginal(self, columns, settings=settings, seed=seed)

    def impute(
        self, rows: Tensor, *, num_imputations: int = 20, seed: int = 0, settings: ConditionalSettings | None = None
    ) -> Imputation:
        """Fill the NaN cells of rows ``(n, *event)`` by draws given each row's own observed cells.

        Raises:
            DataError: rows of another shape, infinite values, or observed values out of bounds.
        """
        from drl_density.density.conditional import impute

        return impute(self, rows, num_imputations=num_imputations, seed=seed, settings=settings)

    def posterior(
        self,
        log_likelihood: Callable[[Tensor], Tensor],
        *,
        num_draws: int = 1000,
        seed: int = 0,
        settings: AISSettings | None = None,
    ) -> Posterior:
        """Draws of this density times a likelihood, and the log evidence with its error.

        Args:
            log_likelihood: differentiable, maps rows ``(n, *event)`` in data units to ``(n,)``.
            num_draws: draws, each the end of an adjusted chain begun at a weighted particle.
            seed: of the run.
            settings: sizes of the annealing run.

        Returns:
            :class:`~drl_density.density.posterior.Posterior`.

        Raises:
            DataError: a likelihood of wrong shape or without gradient.
            NumericalError: a likelihood that gives NaN or +inf, or when every particle is lost.
        """
        from drl_density.density.posterior import posterior

        return posterior(self, log_likelihood, num_draws=num_draws, seed=seed, settings=settings)

    def diagnose(
        self,
        rows: Tensor,
        *,
        level: float = 0.0,
        recovery: bool = False,
        tempering: bool | None = None,
        num_steps: int = 10_000,
        num_chains: int = 64,
        kernel: Kernel | None = None,
        seed: int = 0,
    ) -> Diagnosis:
        """Long adjusted chains, half begun at ``rows`` ``(n, *event)`` and half at noise, in bounded memory.

        Args:
            rows: data to begin at and to compare with, in data units.
            level: noise level of the chains.
            recovery: run on conditionals p(x_level | x_{level+1}) of noised rows in place of the level's own density.
            tempering: also run parallel tempering over the noise levels; by default when single-level chains are slow.
            num_steps: kept steps of every chain, 1e4 to 1e6; at most 1,000 draws of each chain are stored.
            num_chains: chains side by side.
            kernel: adjusted; MALA scaled by the score unless given.
            seed: of the chains.

        Returns:
            :class:`~drl_density.density.diagnosis.Diagnosis` with a verdict: "stable", "slow" or "drifting".

        Raises:
            DataError: too few chains, steps or rows, rows out of bounds, a level that is not there, an unadjusted kernel.
        """
        from drl_density.density.diagnosis import diagnose

        return diagnose(
            self,
            rows,
            level=level,
            recovery=recovery,
            tempering=tempering,
            num_steps=num_steps,
            num_chains=num_chains,
            kernel=kernel,
            seed=seed,
        )

    def outlier_scores(self, rows: Tensor, *, reference: Tensor | None = None, seed: int = 0) -> xr.Dataset:
        """How unusual rows ``(n, *event)`` are.

        Args:
            rows: complete rows in data units.
            reference: held-out rows to rank against; the model's stored draws when not given.
            seed: of the noise of the profile.

        Returns:
            Dataset over ``row``: ``log_density`` with ``_lower`` and ``_upper`` (95 % by log Z), ``p_value`` (share of
            reference rows with a lower log density), ``typicality_p_value`` (two-sided), and ``profile`` over ``level``
            (standardised log density of the noised row).

        Raises:
            DataError: incomplete rows, rows of another shape, or fewer than 20 reference rows.
        """
        from drl_density.density.outliers import outlier_scores

        return outlier_scores(self, rows, reference=reference, seed=seed)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the density to a run folder; see :func:`drl_density.density.store.save_density`."""
        from drl_density.density.store import save_density

        return save_density(self, path, force=force)

    @staticmethod
    def load(path: str | Path) -> Density:
        """Read a density from a run folder."""
        from drl_density.density.store import load_density

        return load_density(path)

    def summary(self) -> str:
        """A few lines for a person: the likelihood with its error and verdict, and the floor."""
        base = self.baselines
        lines = [
            f"validation log-likelihood {base.model:.3f} nats/row "
            f"(Gaussian {base.gaussian:.3f}, independent marginals {base.independent:.3f})",
            f"log Z {self.estimate.value:.4f} +- {self.estimate.standard_error:.4f} (verdict: {self.estimate.verdict})",
            f"reported level: noise {float(self.model.schedule.sigma_at(0)):.3g} in model space",
        ]
        if not base.is_above_floor:
            lines.append("FAILURE: the model is below its floor; see docs, 'when a fit fails'")
        return "\n".join(lines)


class ToData:
    """Model-space rows to data space, in float64, shaped as events."""

    def __init__(self, transform: Transform, event_shape: torch.Size) -> None:
        self.transform, self.event_shape = transform, event_shape

    def __call__(self, u: Tensor) -> Tensor:
        with torch.no_grad():
            return self.transform.inv(u.double()).reshape(-1, *self.event_shape)


class _Blank:
    """Placeholder starting points: the progressive sampler makes its own."""

    def __init__(self, event_shape: torch.Size) -> None:
        self.event_shape = event_shape

    def __call__(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        return torch.zeros(num_rows, *self.event_shape)


def bounded_support(lower: Tensor, upper: Tensor) -> constraints.Constraint | None:
    """The constraint of a vector whose entries lie between ``lower`` and ``upper``; None where nothing is bounded."""
    if not bool((lower.isfinite() | upper.isfinite()).any()):
        return None
    return constraints.stack([_interval(float(a), float(b)) for a, b in zip(lower, upper, strict=True)], dim=-1)


def _interval(lower: float, upper: float) -> constraints.Constraint:
    if lower == -float("inf"):
        return constraints.real if upper == float("inf") else constraints.less_than(upper)
    return constraints.greater_than(lower) if upper == float("inf") else constraints.interval(lower, upper)


def freeze(module: nn.Module) -> nn.Module:
    """Switch to evaluation mode and stop gradients of parameters, in place."""
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module
