"""The rows themselves: draws beside data, and the rows that the density finds strangest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drl_density.density.evaluation.likelihood import Likelihood
from drl_density.density.evaluation.page.checks import has_chains
from drl_density.plots import (
    chosen_columns,
    plot_column,
    plot_images,
    plot_log_likelihood,
    plot_pair,
    plot_plane,
)
from drl_density.reports import ReportPanel, ReportSection, ReportTable

MOST_STRANGE = 10
"""Rows that the table of outliers lists."""
MOST_NAMED = 3
"""Cells that are named for each of them."""
NUM_TILES = 64
"""Images in one picture."""
NORMAL_SPREAD = 1.349
"""Distance of the quartiles of a normal distribution in standard deviations."""


def samples_section(report: Likelihood, *, image_shape: Sequence[int] | None = None) -> ReportSection:
    """Draws of the model beside the rows of the report.

    Args:
        report: likelihood report.
        image_shape: shape of a row as an image; that of the fit's data points when not given.
    """
    data, draws = report.rows.numpy(), report.draws.numpy()
    shape = report.image_shape if image_shape is None else tuple(image_shape)
    words = f"{len(draws)} draws of the model beside {len(data)} rows."
    if shape is not None:
        return ReportSection("Samples beside data", (words,), panels=_pictures(report, data, draws, shape))
    names = [str(name) for name in report.values("observed_data", "feature")]
    if data.shape[1] == 2:
        panels = (
            ReportPanel(plot_plane(data, data, names), f"Scatter plot of {len(data)} held-out rows."),
            ReportPanel(
                plot_plane(draws, data, names, is_model=True), f"Scatter plot of {len(draws)} draws on the same axes."
            ),
        )
        return ReportSection("Samples beside data", (words,), panels=panels, is_small=True)
    columns, pairs = chosen_columns(data)
    panels = [
        ReportPanel(
            plot_column(data[:, index], draws[:, index], names[index], has_legend=index == columns[0]),
            f"Histograms of {names[index]}: held-out rows have mean {data[:, index].mean():.3g} and standard deviation "
            f"{data[:, index].std():.3g}, draws {draws[:, index].mean():.3g} and {draws[:, index].std():.3g}.",
        )
        for index in columns
    ]
    for first, second in pairs:
        found = [_correlation(rows[:, first], rows[:, second]) for rows in (data, draws)]
        panels.append(
            ReportPanel(
                plot_pair(
                    data[:, [first, second]], draws[:, [first, second]], [names[first], names[second]], has_legend=False
                ),
                f"Scatter plot of {names[first]} and {names[second]}: correlation {found[0]:.2f} in held-out rows, "
                f"{found[1]:.2f} in draws.",
            )
        )
    if data.shape[1] > len(columns):
        words += f" Shown are the {len(columns)} of {data.shape[1]} columns that depend most on others."
    return ReportSection("Samples beside data", (words,), panels=tuple(panels), is_small=True)


def _pictures(
    report: Likelihood, data: np.ndarray, draws: np.ndarray, shape: tuple[int, ...]
) -> tuple[ReportPanel, ...]:
    limits = (float(data.min()), float(data.max()))
    panels = (
        ReportPanel(
            plot_images(data[:NUM_TILES], shape, limits=limits),
            f"{min(NUM_TILES, len(data))} held-out images.",
            "Data.",
            "Held-out rows, dequantised as they were scored.",
        ),
        ReportPanel(
            plot_images(draws[:NUM_TILES], shape, limits=limits),
            f"{min(NUM_TILES, len(draws))} images drawn from the model, on the same scale of grey.",
            "Draws of the model.",
            "On the same scale.",
        ),
    )
    if not has_chains(report):
        return panels
    chains = report.values("posterior", "x")
    kept = np.linspace(0, chains.shape[1] - 1, 8).round().astype(int)
    walks = chains[:8, kept].reshape(-1, chains.shape[2])
    long_chains = ReportPanel(
        plot_images(walks, shape, limits=limits, columns=8),
        f"{len(walks)} images along {min(8, len(chains))} long chains, one chain in each row.",
        "Long chains of the model.",
        "One chain in each row, from its start (left) to its end. The upper half began at data.",
    )
    return (*panels, long_chains)


def outliers_section(report: Likelihood, *, image_shape: Sequence[int] | None = None) -> ReportSection:
    """The distribution of log-likelihoods, and the rows at its low end.

    Args:
        report: likelihood report.
        image_shape: shape of a row as an image; that of the fit's data points when not given.
    """
    values, data = report.log_likelihood.numpy(), report.rows.numpy()
    order = np.argsort(values)
    shape = report.image_shape if image_shape is None else tuple(image_shape)
    panels = [
        ReportPanel(
            plot_log_likelihood(report),
            f"Histogram of the log-likelihood of {len(values)} rows: mean {values.mean():.2f}, lowest "
            f"{values[order[0]]:.2f}, highest {values[order[-1]]:.2f} nats.",
            "Log-likelihood of the rows.",
            "Rows far on the left are the ones that the model finds strange.",
        )
    ]
    if shape is not None:
        few, limits = min(16, len(order)), (float(data.min()), float(data.max()))
        for chosen, title, text in (
            (order[:few], "Strangest images.", f"The {few} with the lowest log-likelihood, the lowest first."),
            (order[::-1][:few], "Most typical images.", f"The {few} with the highest log-likelihood."),
        ):
            panels.append(ReportPanel(plot_images(data[chosen], shape, limits=limits, columns=8), text, title, text))
    words = "The rows that this density finds strangest. `drl-density outliers` gives p-values for any table."
    return ReportSection("Outliers", (words,), panels=tuple(panels), tables=(_strangest(report, order),))


def _strangest(report: Likelihood, order: np.ndarray) -> ReportTable:
    values, data = report.log_likelihood.numpy(), report.rows.numpy()
    names = [str(name) for name in report.values("observed_data", "feature")]
    low, middle, high = np.quantile(data, (0.25, 0.5, 0.75), axis=0)
    spread = (high - low) / NORMAL_SPREAD
    spread = np.where(spread > 0, spread, data.std(0))
    distances = np.zeros_like(data)
    np.divide(data - middle, spread, out=distances, where=spread > 0)
    rows = []
    for row in order[:MOST_STRANGE].tolist():
        furthest = np.argsort(-np.abs(distances[row])).tolist()[:MOST_NAMED]
        far = [index for index in furthest if abs(distances[row, index]) > 1]
        cells = ", ".join(f"{names[index]} {data[row, index]:.4g} ({distances[row, index]:+.1f})" for index in far)
        rows.append((str(row), f"{values[row]:.2f}", f"{values[row] - values.mean():+.2f}", cells or "none alone"))
    return ReportTable(
        "",
        ("row", "nats", "against the mean", "cells far from the median"),
        tuple(rows),
        "Rows are counted from 0. In brackets: distance from the median in robust standard deviations. A row can be strange "
        "by a combination of cells that are common alone. Labels are shown by their codes.",
        is_text=True,
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two columns; NaN where one of them is constant."""
    if len(first) < 2 or not (first.std() > 0 and second.std() > 0):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
