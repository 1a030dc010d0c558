"""The object a user holds: everything that can be asked of a fit, as methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import torch
from torch import Tensor

from drl_density.autograd import methods_outside_inference_mode
from drl_density.density.conditioning.questions import ColumnQuestions
from drl_density.density.derived.distill import DistillSettings, Generator, distill, read_generator
from drl_density.density.derived.draw import DrawSettings, draw
from drl_density.density.derived.guided import guided
from drl_density.density.derived.posterior import Posterior, posterior
from drl_density.density.derived.reconstruct import Reconstruction, ReconstructSettings, reconstruct
from drl_density.density.evaluation.bits_per_dimension import BitsPerDimension, importance_bits
from drl_density.density.evaluation.diagnose import DiagnoseSettings, diagnose
from drl_density.density.evaluation.diagnosis import Diagnosis
from drl_density.density.evaluation.evaluate import evaluate
from drl_density.density.evaluation.likelihood_report import LikelihoodReport
from drl_density.density.evaluation.outlier_scores import OutlierScores, outlier_scores
from drl_density.density.seeds import random_generator
from drl_density.density.storage.finished import read_density, save_density
from drl_density.density.tables import PlainRows, index_of
from drl_density.devices import global_generator_kept
from drl_density.distributions import SampleResult
from drl_density.operators import LinearOperator
from drl_density.partition_function import AISSettings, SandwichSettings
from drl_density.records.html import html_card

if TYPE_CHECKING:
    import pandas as pd


@methods_outside_inference_mode
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Density(ColumnQuestions):
    """A fitted density, with every question about it as a method.

    Attributes:
        model: the :class:`~drl_density.EnergySequence` in model space; its level 0 is the reported density.
        transform: torch ``Transform`` from flat data rows ``(n, d)`` to model space.
        estimate: log Z of level 0 in model space, with its error and verdict.
        event_shape: shape of one data point.
        columns: name, kind, rounding width and bounds of each column.
        settings: resolved settings of the fit.
        plan: how level 0 is drawn from, decided at the end of the fit.
        pool: stored draws in data units ``(n, d)``, float64.
        baselines: validation figures of the model and of two simple references.
        history: training history over ``step`` and ``level``.
        provenance: data, seed and choices that led to this fit.
        reference: scores of the fit's test rows, which p-values rank against; None where there are fewer than 20.

    Rows may be tensors, arrays, nested lists or data frames, flat or of the event shape. Every result is on the CPU. Tensors
    and arrays hold codes 0, 1, ... in a column of labels, and are answered by tensors. Data frames hold labels, and are
    answered by pandas objects with their index.
    """

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            """An error that leads to the sequence, where samplers of a model are given a density."""
            owner, model = type(self).__name__, self.__dict__.get("model")
            missing = f"{owner!r} object has no attribute {name!r}"
            if not name.startswith("_") and hasattr(model, name):
                missing += f", but its sequence of noise levels has: give samplers and estimators {owner.lower()}.model"
            raise AttributeError(missing, name=name, obj=self)

    # --- in words

    def _repr_html_(self) -> str:
        base, names = self.baselines, [column.name for column in self.columns]
        beside = f"Gaussian {base.gaussian:.3f}, independent columns {base.independent:.3f}"
        figures = {
            "columns": f"{len(names)}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}",
            "validation log-likelihood": f"{base.model:.3f} nats per row ({beside})",
            "log Z": f"{self.estimate.log_z:.4f} \u00b1 {self.estimate.standard_error:.4f}",
            "draws": self.plan.describe(),
        }
        if self.remarks:
            figures["about the fit"] = "; ".join(self.remarks)
        title = f"Density of {self.provenance.name}"
        return html_card(title, figures, verdict=self.estimate.verdict, advice=self.estimate.advice)

    # --- how good it is

    def evaluate(
        self,
        x: Any,
        *,
        settings: SandwichSettings | None = None,
        start_rows: Any = None,
        seed: int | None = None,
        progress: bool = False,
    ) -> LikelihoodReport:
        """Likelihood of rows with the two-sided interval of log Z and a verdict.

        Unlike :meth:`log_prob`, which uses the quick one-sided estimate made at the end of the fit, this runs a new
        two-sided estimate. Its figures are the ones to quote.

        Args:
            x: complete rows ``(n, *event)`` in data units; columns whose values all lie on the rounding grid are
                dequantised once.
            start_rows: rows at which the second set of chains starts; ``x`` when None.

        Raises:
            DataError: no rows, rows of another shape, or NaN or infinite values.
        """
        return evaluate(
            self,
            x,
            settings=settings,
            start_rows=start_rows,
            generator=random_generator(seed),
            seed=seed,
            progress=progress,
        )

    def bits_per_dimension(
        self, x: Any, *, num_samples: int = 16, report: LikelihoodReport | None = None, seed: int | None = None
    ) -> BitsPerDimension:
        """Bits per dimension of whole numbers, such as 8-bit images, from the mean density over draws inside each cell.

        More draws tighten the bound: with one it is that of uniform dequantisation, as in ``report.bits()``.

        Args:
            x: complete rows ``(n, *event)`` of whole numbers in data units.
            num_samples: number of draws for each row.
            report: report whose interval of log Z counts; that of the estimate at the end of the fit when None.

        Raises:
            DataError: columns that are no whole numbers of one declared range, or rows off that grid.
        """
        log_z = None if report is None else (report.log_z, report.log_z_lower, report.log_z_upper)
        return importance_bits(self, x, num_samples=num_samples, log_z=log_z, generator=random_generator(seed))

    def diagnose(self, rows: Any, *, settings: DiagnoseSettings | None = None, seed: int | None = None) -> Diagnosis:
        """Long adjusted chains, half started at data and half at noise, with the verdict "stable", "slow" or "drifting".

        Args:
            rows: complete rows ``(n, *event)`` in data units, where chains start and which they are compared with.

        Raises:
            DataError: too few rows, rows out of bounds, a level that the model lacks, or an unadjusted kernel.
        """
        return diagnose(self, rows, settings=settings, generator=random_generator(seed), seed=seed)

    @overload
    def outlier_scores(self, rows: pd.DataFrame, *, reference: Any = ...) -> pd.DataFrame: ...

    @overload
    def outlier_scores(self, rows: PlainRows, *, reference: Any = ...) -> OutlierScores: ...

    def outlier_scores(self, rows: Any, *, reference: Any = None) -> Any:
        """How unusual rows are: log density, p-values against reference rows, and a profile over noise levels.

        The profile adds the same noise to every row, so the scores of a row depend on the row alone.

        Args:
            rows: complete rows ``(n, *event)`` in data units, or a frame.
            reference: held-out rows to rank against, or their scores. When None, the scores of the fit's test rows that
                are kept with the density, or those of its stored draws where it has fewer than 20 test rows.

        Returns:
            A record of tensors; for a frame a pandas DataFrame with its index, see
            :meth:`~drl_density.density.evaluation.outlier_scores.OutlierScores.to_frame`.

        Raises:
            DataError: incomplete rows, rows of another shape, or fewer than 20 reference rows.
        """
        found = outlier_scores(self, rows, reference=reference)
        index = index_of(rows)
        return found if index is None else found.to_frame(index=index)

    # --- draws, and new densities

    def draw(self, num_samples: int, *, settings: DrawSettings | None = None, seed: int | None = None) -> SampleResult:
        """Draws ``(num_samples, *event)`` in data units by any sampler of the package, with statistics of the chains.

        Without a method they are drawn as by :meth:`sample`. The result names its ``sampler``.

        Raises:
            DataError: fewer than 1 draw, or "short-run" of a density that lacks the chains or the initialiser of training.
        """
        return draw(self, num_samples, settings=settings, generator=random_generator(seed))

    def guided(self, label: int, *, weight: float = 0.0, seed: int | None = None) -> Self:
        r"""The density of the images of one label, sharpened by a guidance weight w. Requires a fit with labels.

        .. math:: \log p(x) = (1 + w)\, F(x, c) - w\, F(x, \text{unlabelled}) - \log Z

        The result is normalised again and has its own draws. Its validation figures are those of the fit itself.

        Args:
            label: label of the images, one of ``provenance.labels``.
            weight: guidance weight w; 0 gives the model's p(x | c).

        Raises:
            DataError: a label that the fit did not have.

        Source: Ho and Salimans 2022; Zhu et al. 2024.
        """
        return guided(self, label, weight=weight, generator=random_generator(seed))

    def posterior(
        self,
        log_likelihood: Callable[[Tensor], Tensor],
        *,
        num_samples: int = 1000,
        settings: AISSettings | None = None,
        seed: int | None = None,
    ) -> Posterior:
        """Draws from the posterior with this density as the prior, and the log evidence with its error.

        Args:
            log_likelihood: function from float64 rows ``(n, *event)`` in data units to ``(n,)``, -inf where the likelihood
                is 0. Where it has no gradient, chains follow that of the density alone.

        Raises:
            DataError: fewer than 2 draws, or a likelihood of the wrong shape or type.
            NumericalError: a likelihood that gives NaN or +inf, or loses every particle.
        """
        return posterior(
            self, log_likelihood, num_samples=num_samples, settings=settings, generator=random_generator(seed)
        )

    def reconstruct(
        self,
        operator: LinearOperator,
        y: Tensor,
        *,
        noise: float | None = None,
        num_samples: int = 200,
        image_shape: tuple[int, ...] | None = None,
        settings: ReconstructSettings | None = None,
        seed: int | None = None,
    ) -> Reconstruction:
        """Draws of the point x behind a measurement y = A x + noise, where A acts in data units.

        Args:
            operator: the linear map A; see :mod:`drl_density.operators`.
            y: one measurement, without batch dimension.
            noise: standard deviation of the measurement's noise, which the method "posterior" needs.
            image_shape: shape in which the operator sees a point; the event shape when None.

        Raises:
            DataError: a missing noise, a method that the operator does not allow, or a transform that mixes columns.
            ValueError: a measurement that does not fit the operator.
        """
        return reconstruct(
            self,
            operator,
            y,
            noise=noise,
            num_samples=num_samples,
            image_shape=image_shape,
            settings=settings,
            generator=random_generator(seed),
        )

    def distill(
        self, rows: Any = None, *, settings: DistillSettings | None = None, seed: int | None = None
    ) -> Generator:
        """Train a generator that needs one to a few network calls per draw. Its draws do not follow the density exactly.

        Args:
            rows: data ``(n, *event)`` in data units, which the method "mmd" matches and "em" does not take.

        Raises:
            DataError: "mmd" without rows, "em" with rows, or rows of another shape.
            TrainingFailed: a loss that is not finite.
        """
        return distill(self, rows, settings=settings, generator=random_generator(seed))

    # --- files

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the density to a new run folder, all at once.

        A run that is overwritten stays until the new one is complete. The page "Files" of the documentation has the details.

        Args:
            path: run folder to create.
            force: whether to overwrite a run in it.

        Raises:
            RunFolderError: a folder that holds a run, without ``force``, a folder that another process writes to, or a full
                disk.
        """
        return save_density(self, path, force=force)

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device | None = None) -> Self:
        """Read a finished density from a run folder.

        Args:
            path: folder of a finished run.

        Raises:
            RunFolderError: a missing, foreign, damaged or unfinished run.
            ValueError: a device that this machine does not have.
        """
        with global_generator_kept():
            return cls(**read_density(path)).to(device)


def load_generator(path: str | Path, *, device: str | torch.device | None = None) -> Generator:
    """Read the distilled generator of a run folder, together with its density.

    Args:
        path: folder of a finished run.

    Raises:
        RunFolderError: no run, an unfinished one, or none from which a generator was distilled.
        ValueError: a device that this machine does not have.
    """
    return read_generator(Density.load(path, device=device), path)
