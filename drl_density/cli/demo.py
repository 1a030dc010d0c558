"""The demonstration: one real set, fitted, compared, and laid out on a page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from drl_density.cli.tables import report_values
from drl_density.datasets import load_dataset, memorization_check
from drl_density.density.density import Density
from drl_density.density.evaluation.likelihood_report import LikelihoodReport
from drl_density.density.evaluation.page.likelihood_page import likelihood_page
from drl_density.density.evaluation.sections.reference_gain import reference_log_density
from drl_density.density.fitting.baselines import gaussian_log_density
from drl_density.density.fitting.fit import fit
from drl_density.density.fitting.table import Table, prepare_table
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.storage.finished import check_same_run
from drl_density.errors import Verdict
from drl_density.plots import plot_data_against_samples, plot_density_2d, plot_rivals, plot_sandwich, plot_training
from drl_density.reports import ReportPage, ReportPanel, ReportSection, ReportTable, figure_to_png
from drl_density.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class DemoOutcome:
    """The comparison.

    Attributes:
        text: its lines.
        verdict: verdict on log Z.
        values: figures of every density and of the report, by name.
    """

    text: str
    verdict: Verdict
    values: Mapping[str, Any]


def run_demo(
    source: str,
    out: str | Path,
    *,
    seed: int = 0,
    max_minutes: float = 3.0,
    force: bool = False,
    settings: FitSettings | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> DemoOutcome:
    """Fit, compare with simple rivals and the fit's own reference, write ``report.html`` and PNG plots.

    Args:
        source: name or file of the data set.
        out: location of the run folder.
        seed: seed of the split, the fit and the estimates.
        max_minutes: time to aim at for the fit, in minutes.
        force: overwrite a run in ``out``.
        settings: settings of the fit.
        progress: show the progress bar.
        device: device of the model, see :func:`fit`.

    Returns:
        :class:`DemoOutcome`.
    """
    started = time.monotonic()
    data = load_dataset(source, seed=seed)
    density = fit(
        data,
        seed=seed,
        out=out,
        settings=settings,
        max_minutes=max_minutes,
        force=force,
        progress=progress,
        device=device,
    )
    table = prepare_table(data, density.settings.transform)
    report = density.evaluate(data.test, seed=seed, start_rows=data.train, progress=progress)
    figures = held_out_figures(table, density, report, seed=seed)
    page = _page(table, density, report, figures, time.monotonic() - started)
    with RunFolder.writing(out) as folder:
        check_same_run(folder, density)
        folder.write_dataset(folder.report, report.tree)
        folder.write_text(folder.page, page.to_html())
        for name, axes in _pictures(table, density, report).items():
            folder.write_content(folder.figure(name), figure_to_png(axes.figure))  # pyright: ignore[reportArgumentType]
    lines = [f"{name:36s} {figure.describe()}" for name, figure in figures.items()]
    head = f"test log-likelihood on {data.name} ({len(data.test)} rows, same split and transform)"
    text = [head, *lines, "the fit:", density.summary(), "the evaluation:", report.summary(), f"report: {folder.page}"]
    values = {"densities": {name: figure._asdict() for name, figure in figures.items()}, "page": folder.page}
    return DemoOutcome("\n".join(text), report.verdict, values | report_values(report))


class HeldOutFigure(NamedTuple):
    """Mean test log-likelihood of one density in data units, nats per row, with errors over distinct rows.

    Attributes:
        mean: mean log-likelihood.
        error: its standard error.
        gain: mean gain of the model over this density, row by row; 0 for the model itself.
        gain_error: standard error of the gain.
    """

    mean: float
    error: float
    gain: float = 0.0
    gain_error: float = 0.0

    def describe(self) -> str:
        """The figures in one line.

        >>> HeldOutFigure(-3.5, 0.1, 0.25, 0.02).describe()
        '    -3.500 +- 0.100 nats/row; the model gains +0.250 +- 0.020'
        """
        gain = f"; the model gains {self.gain:+.3f} +- {self.gain_error:.3f}" if self.gain_error else ""
        return f"{self.mean:10.3f} +- {self.error:.3f} nats/row{gain}"


def held_out_figures(
    table: Table, density: Density, report: LikelihoodReport, *, seed: int
) -> dict[str, HeldOutFigure]:
    """Test log-likelihoods of the model, of its own untouched reference, and of simple rivals."""
    from sklearn.neighbors import KernelDensity

    rows = table.held_out(table.dataset.test, seed=seed + 1)
    train = table.rows(table.dataset.train, generator=torch.Generator().manual_seed(seed))
    u_train, (u, jacobian) = table.transform(train), table.transform.with_log_jacobian(rows)
    validation = table.transform(table.rows(table.dataset.validation, generator=torch.Generator().manual_seed(seed)))

    kernels = [KernelDensity(bandwidth=width).fit(u_train.numpy()) for width in np.geomspace(0.05, 1.5, 16)]
    kernel = max(kernels, key=lambda model: model.score(validation.numpy()))
    model = density.log_density_of(rows) + density.estimate.log_z - report.log_z
    reference = reference_log_density(density, rows)
    values = {
        "drl_density": model,
        **({} if reference is None else {"its own reference, untouched": reference}),
        "kernel density (same transform)": torch.as_tensor(kernel.score_samples(u.numpy())) + jacobian,
        "Gaussian (same transform)": gaussian_log_density(u_train, u) + jacobian,
        "N(0, I) (same transform)": torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(-1) + jacobian,
    }
    number = len(table.dataset.test)
    return {
        name: HeldOutFigure(*_mean_and_error(value, number), *_mean_and_error(model - value, number))
        for name, value in values.items()
    }


def _mean_and_error(values: Tensor, num_rows: int) -> tuple[float, float]:
    """Mean, and its error over distinct rows (copies of one row with fresh dequantisation are averaged first)."""
    copies = len(values) // num_rows
    by_row = values[: copies * num_rows].reshape(copies, num_rows).mean(0)
    return float(by_row.mean()), float(by_row.std() / len(by_row) ** 0.5)


def _page(
    table: Table,
    density: Density,
    report: LikelihoodReport,
    figures: dict[str, HeldOutFigure],
    seconds: float,
) -> ReportPage:
    data = table.dataset
    further = [_training(density)]
    if data.known_log_density is not None:
        panel = ReportPanel(_densities(table, density), "True density and that of the model.")
        further.insert(0, ReportSection("Density", panels=(panel,)))
    return likelihood_page(
        report,
        title=f"drl_density on {data.name}",
        lead=f"{len(data.train)} training rows, {data.num_columns} columns, {seconds:.0f} s from rows to this page.",
        rivals=_rivals(table, density, figures),
        image_shape=_image_shape(data.name),
        further=further,
        appendix=f"{data.describe()}\n\n{density.summary()}\n\n{density.settings.to_dict()}",
    )


def _rivals(table: Table, density: Density, figures: dict[str, HeldOutFigure]) -> ReportSection:
    """Test log-likelihoods beside rivals, and whether draws repeat training rows."""
    data = table.dataset
    noisy_test = table.rows(data.test, generator=torch.Generator().manual_seed(0))
    check = memorization_check(density.pool[: 4 * len(data.test)], data.train, noisy_test)
    rows = tuple(
        (name, f"{found.mean:.3f}", f"{found.error:.3f}", f"{found.gain:+.3f}", f"{found.gain_error:.3f}")
        for name, found in figures.items()
    )
    means = {name: (found.mean, found.error) for name, found in figures.items()}
    alt = ", ".join(f"{name} {mean:.2f}" for name, (mean, _) in means.items())
    note = (
        f"Every likelihood is a {data.likelihood_label}. Errors are over test rows, and a gain compares row by row. "
        f"{check.describe()}"
    )
    return ReportSection(
        "Likelihood beside rivals",
        panels=(
            ReportPanel(
                plot_rivals(means),
                f"Mean test log-likelihood in nats per row: {alt}.",
                "Mean log-likelihood of the test rows.",
                "Further right is better.",
            ),
        ),
        tables=(
            ReportTable(
                "", ("density", "nats per row", "standard error", "gain of the model", "paired error"), rows, note
            ),
        ),
    )


def _pictures(table: Table, density: Density, report: LikelihoodReport) -> dict[str, Axes]:
    """Figures that are written as files too."""
    data = table.dataset
    names = [column.name for column in data.columns]
    beside = plot_data_against_samples(data.test, density.pool, names=names, image_shape=_image_shape(data.name))
    found = {
        "log Z": plot_sandwich(report),
        "data against samples": beside[0],
        "training": plot_training(density.history)[0],
    }
    if data.known_log_density is not None:
        found["density"] = _densities(table, density)
    return found


def _densities(table: Table, density: Density) -> Axes:
    """The known density of a toy beside that of the model."""
    return plot_density_2d({"true": table.dataset.log_density, "model": density.log_prob})[0]


def _training(density: Density) -> ReportSection:
    axes = plot_training(density.history)
    steps = density.history["step"].values
    alt = f"Six training curves over {int(steps[-1]) if len(steps) else 0} steps: scores, losses, and figures by level."
    return ReportSection("Training", panels=(ReportPanel(axes[0], alt),))


def _image_shape(name: str) -> tuple[int, int] | None:
    """The shape of rows that are images, though they are read as a table."""
    return (8, 8) if name == "digits" else None
