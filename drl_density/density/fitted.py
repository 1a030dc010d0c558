"""The object a user holds: a sequence of energy-based models together with the map from data space."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr
from torch import Tensor
from torch.distributions import constraints

from drl_density.datasets import Column
from drl_density.density.data_units import Blank, DataLogDensity, PooledSampler, ToData, bounded_support, freeze
from drl_density.density.integrability import largest_power
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.devices import find_device
from drl_density.distributions import EnergyDistribution, SampleResult
from drl_density.errors import DataError, UnreliableEstimateWarning
from drl_density.inverse_problems import ConditionalSettings
from drl_density.model import EnergySequence
from drl_density.samplers import ProgressivePlan, ProgressiveSampler
from drl_density.transforms import DataTransform
from drl_density.weights import LogPartitionEstimate

if TYPE_CHECKING:
    from drl_density.density.conditioning.condition import MarginalDensity
    from drl_density.density.conditioning.impute import Imputation
    from drl_density.density.conditioning.predict import Prediction
    from drl_density.density.derived.posterior import Posterior
    from drl_density.density.evaluation.diagnose import Diagnosis
    from drl_density.density.evaluation.likelihood_report import LikelihoodReport
    from drl_density.mcmc import Kernel
    from drl_density.partition_function import AISSettings, SandwichSettings


@dataclass(frozen=True)
class Baselines:
    """Validation log-likelihoods, nats per row in data units, of the model and of the floor it must beat.

    Attributes:
        model: the fitted sequence, normalised by annealed importance sampling.
        gaussian: a Gaussian in model space, of full covariance up to 4096 columns.
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
    transform: DataTransform
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
            initial=Blank(event_shape),
            is_integrable=model.is_integrable,
            largest_power=largest_power(model, self.transform),
        )
        return target.normalize(self.estimate)

    def _support(self) -> constraints.Constraint | None:
        bounds = self.transform.bounds.expand(torch.Size(self.event_shape).numel())
        return bounded_support(*bounds) if len(self.event_shape) == 1 else None

    def log_prob(self, x: Tensor) -> Tensor:
        """Normalised log density of rows ``(n, *event)`` in data units, nats, float64, shape ``(n,)``;
        -inf outside declared bounds.

        Args:
            x: one row, or rows, flat or of the event shape.

        Raises:
            DataError: rows of another shape.
        """
        rows, event_shape = torch.as_tensor(x, dtype=torch.float64, device="cpu"), torch.Size(self.event_shape)
        is_flat = rows.ndim > 0 and rows.shape[-1] == event_shape.numel()
        if not is_flat and rows.shape[max(rows.ndim - len(event_shape), 0) :] != event_shape:
            raise DataError(f"expected rows (n, *event) of event shape {tuple(event_shape)}, got {tuple(rows.shape)}")
        rows = rows.reshape(-1, event_shape.numel())
        target = DataLogDensity(self.model, self.transform)
        with torch.no_grad():
            parts = [target(chunk) for chunk in rows.split(16384)]
        return torch.cat(parts) - self.estimate.log_z

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Fresh draws ``(num_samples, *event)`` in data units by the progressive sampler.

        Args:
            num_samples: draws.
            generator: source of randomness.
        """
        return self.run(num_samples, generator=generator).draws

    def run(self, num_samples: int, *, generator: torch.Generator | None = None) -> SampleResult:
        """Fresh draws with the statistics of their chains.

        Args:
            num_samples: draws.
            generator: source of randomness.
        """
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
            :class:`~drl_density.density.evaluation.likelihood_report.LikelihoodReport`.

        Raises:
            DataError: rows of another shape, NaN or infinite values, or no rows.
        """
        from drl_density.density.evaluation.evaluate import evaluate

        return evaluate(self, x, seed=seed, settings=settings, start_rows=start_rows, progress=progress)

    def guided(self, label: int, *, weight: float = 0.0, seed: int = 0) -> Density:
        r"""The density of images of one label, sharper with weight w, by the labels that training told:

        .. math:: \log p(x) = (1 + w)\, F(x, c) - w\, F(x, \text{not told}) - \log Z

        A density like any other: normalised anew, with draws of its own, to be saved, sampled and judged. Its validation
        figures are still those of the density without the label.

        Args:
            label: one of ``details["labels"]``.
            weight: w; 0 is the model's p(x | c).
            seed: of the estimate and the draws.

        Raises:
            DataError: no such label.

        Source: Ho and Salimans 2022; Zhu et al. 2024.
        """
        from drl_density.density.derived.guide import guided_density

        return guided_density(self, label, weight=weight, seed=seed)

    def condition(
        self,
        given: Mapping[int | str, float | str] | Tensor,
        *,
        observed: Tensor | None = None,
        normalize: bool = False,
        seed: int | None = None,
        settings: ConditionalSettings | None = None,
    ) -> EnergyDistribution:
        """The distribution of the other columns given some, over vectors in the columns' order, in data units.

        Args:
            given: ``{index or name: value or label}``, or a point with NaN where values are missing (images: a masked
                image). A given label (yes/no or text column) means its whole cell, a number the number itself.
            observed: with a whole point, a boolean mask of its shape, true where its values are to be conditioned on.
            normalize: estimate the slice's normaliser, so that ``log_prob`` is the conditional density; its error and
                verdict stand in the distribution's ``estimate``.
            seed: of that estimate.
            settings: sizes.

        Returns:
            A Pyro distribution; its ``sample`` runs sequential Monte Carlo down the noise levels, which finds separated
            modes with their weights, and ends with adjusted chains whose R-hat stands in ``last_result.stats``.

        Raises:
            DataError: unknown columns, values out of bounds, everything or nothing given, or a transform that mixes
                columns.
        """
        from drl_density.density.conditioning.condition import condition

        return condition(self, given, observed=observed, normalize=normalize, seed=seed, settings=settings)

    def marginal(
        self, columns: Sequence[int | str], *, settings: ConditionalSettings | None = None, seed: int = 0
    ) -> MarginalDensity:
        """The density of ``columns`` alone; ``.log_prob_and_error(x)`` integrates the others out for every row.

        Args:
            columns: indices or names.
            settings: sizes of each integral.
            seed: of the integrals.
        """
        from drl_density.density.conditioning.condition import marginal

        return marginal(self, columns, settings=settings, seed=seed)

    def impute(
        self, rows: Tensor, *, num_imputations: int = 20, seed: int = 0, settings: ConditionalSettings | None = None
    ) -> Imputation:
        """Fill the NaN cells of rows ``(n, *event)`` by draws given each row's own observed cells.

        Args:
            rows: in data units, NaN where cells are missing.
            num_imputations: draws per row.
            seed: of the draws.
            settings: sizes.

        Raises:
            DataError: rows of another shape, infinite values, or observed values out of bounds.
        """
        from drl_density.density.conditioning.impute import impute

        return impute(self, rows, num_imputations=num_imputations, seed=seed, settings=settings)

    def predict(
        self,
        rows: Tensor,
        column: int | str,
        *,
        quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        seed: int = 0,
        settings: ConditionalSettings | None = None,
    ) -> Prediction:
        """One column given the others, row by row: mean, quantiles, probabilities of labels, log density of what is there.

        Args:
            rows: ``(n, *event)`` in data units, NaN where cells are missing; the predicted column may be missing too.
            column: index or name.
            quantiles: levels.
            seed: of the places in cells of given labels, and of draws of other missing cells.
            settings: sizes of those draws.

        Returns:
            :class:`~drl_density.density.conditioning.predict.Prediction`.

        Raises:
            DataError: unknown columns, rows of another shape, nothing given, values out of bounds or labels unknown.
            NumericalError: given values so far outside the data that the slice does not fall off.
        """
        from drl_density.density.conditioning.predict import predict

        return predict(self, rows, column, quantiles=quantiles, seed=seed, settings=settings)

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
            :class:`~drl_density.density.derived.posterior.Posterior`.

        Raises:
            DataError: a likelihood of wrong shape or without gradient.
            NumericalError: a likelihood that gives NaN or +inf, or when every particle is lost.
        """
        from drl_density.density.derived.posterior import posterior

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
            :class:`~drl_density.density.evaluation.diagnose.Diagnosis` with a verdict: "stable", "slow" or "drifting".

        Raises:
            DataError: too few chains, steps or rows, rows out of bounds, a level that is not there, an unadjusted kernel.
        """
        from drl_density.density.evaluation.diagnose import diagnose

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
            reference rows with a lower log density), ``typicality_p_value`` (two-sided), ``profile`` over ``level``
            (standardised log density of the noised row), and ``strangeness``, one number to rank rows by, higher is
            stranger: minus the profile at level 0 and minus its mean over the levels.

        Raises:
            DataError: incomplete rows, rows of another shape, or fewer than 20 reference rows.
        """
        from drl_density.density.evaluation.outliers import outlier_scores

        return outlier_scores(self, rows, reference=reference, seed=seed)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the density to a run folder; see :func:`drl_density.density.storage.save_density`.

        Args:
            path: of the folder.
            force: overwrite the run in it.
        """
        from drl_density.density.storage import save_density

        return save_density(self, path, force=force)

    @staticmethod
    def load(path: str | Path, *, device: str | torch.device | None = None) -> Density:
        """Read a density from a run folder.

        Args:
            path: of the folder.
            device: where its model is to be, see :meth:`to`.
        """
        from drl_density.density.storage import load_density

        return load_density(path).to(device)

    def to(self, device: str | torch.device | None) -> Density:
        """This density with a copy of its model on ``device``; itself where that is None or where the model stands.

        The model and states in model space live on the device. Rows in data units are taken from anywhere, and everything
        that this object's methods return lives on the CPU; likelihoods handed to :meth:`posterior` see rows of the CPU. A
        ``generator`` of the CPU gives the same random numbers whatever the device.

        Args:
            device: such as "cuda", "cuda:1" or "cpu".

        Raises:
            ValueError: a device that is not there.

        >>> import drl_density as drl
        >>> small = drl.TrainingSettings(num_steps=5, batch_size=32)
        >>> settings = drl.FitSettings(width=8, num_levels=3, num_pool_draws=20, training=small)
        >>> density = drl.fit("eight_gaussians", settings=settings, progress=False, device="cpu")
        >>> density.to("cpu").model.device
        device(type='cpu')
        """
        if device is None or (place := find_device(device)) == self.model.device:
            return self
        return dataclasses.replace(self, model=copy.deepcopy(self.model).to(place))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is wrong with the fit itself, in words: left at its base, or below its floor; empty for a sound one."""
        found = []
        if not any(self.details.get("best_step", {"": 1}).values()):
            found.append("validation kept the untrained model, its fixed base: training brought nothing, or never ran")
        if not self.baselines.is_above_floor:
            found.append("the model is below its floor: a Gaussian or independent columns do better on validation rows")
        return tuple(found)

    def summary(self) -> str:
        """A few lines for a person: the likelihood with its error and verdict, and the floor."""
        base = self.baselines
        lines = [
            f"validation log-likelihood {base.model:.3f} nats/row "
            f"(Gaussian {base.gaussian:.3f}, independent marginals {base.independent:.3f})",
            f"log Z {self.estimate.log_z:.4f} +- {self.estimate.standard_error:.4f} (verdict: {self.estimate.verdict})",
            f"reported level: noise {float(self.model.schedule.sigma_at(0)):.3g} in model space",
        ]
        if not base.is_above_floor:
            lines.append("FAILURE: the model is below its floor; see docs, 'when a fit fails'")
        return "\n".join(lines)
