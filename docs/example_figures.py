"""The figure of each example's page, from what its ``main`` returned; a figure's docstring is its caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from drl_density import plots
from drl_density.plots import DATA_COLOR, GRAY, SAMPLE_COLOR


def panels(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure and its axes, row by row."""
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes:
        axis.title.set_fontsize(10)
        axis.tick_params(labelsize=8)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return figure, axes


def pictures(rows: Sequence[Tensor], labels: Sequence[str], *, limits: tuple[float, float] = (0, 16)) -> Figure:
    """Rows of digits ``(n, 64)``, dark on white, each row with its label; what is NaN is drawn in blue."""
    count = max(len(row) for row in rows)
    figure, axes = panels(len(rows), count, (1.8 + 0.72 * count, 0.78 * len(rows)))
    for axis in axes:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for place, (row, label) in enumerate(zip(rows, labels, strict=True)):
        for axis, picture in zip(axes[place * count :], row, strict=False):
            image = np.ma.masked_invalid(picture.reshape(8, 8).double().numpy())
            axis.imshow(image, cmap="gray_r", vmin=limits[0], vmax=limits[1])
            axis.set_facecolor("#9db9d6")
            axis.set_frame_on(True)
            for side in axis.spines.values():
                side.set(visible=True, color="#d5dade")
        axes[place * count].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def clouds(named: dict[str, Tensor]) -> tuple[Figure, list[Axes]]:
    """Scatter plots ``(n, 2)`` side by side on common axes; data in dark, draws in red."""
    figure, axes = panels(1, len(named), (3.1 * len(named), 3.3))
    limit = 1.2 * float(torch.cat([rows.double() for rows in named.values()]).abs().quantile(0.995))
    for place, (axis, (name, rows)) in enumerate(zip(axes, named.items(), strict=True)):
        color = SAMPLE_COLOR if place else DATA_COLOR
        axis.scatter(*rows[:1000].T.tolist(), s=4, alpha=0.5, color=color, linewidths=0)
        axis.set(title=name, xlabel="x0", aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
        axis.locator_params(nbins=5)
    axes[0].set_ylabel("x1")
    return figure, axes


def titled(result: Sequence[Tensor], names: tuple[str, str]) -> Figure:
    """The first two results as scatter plots."""
    axes = plots.plot_data_against_samples(result[0], result[1])
    for axis, name in zip(axes, names, strict=False):
        axis.set_title(name)
    return axes[0].figure


def fitted_toy(module: Any, result: Any) -> Figure:
    """Held-out rows beside draws of the fitted density by progressive sampling."""
    return titled(result, ("held-out data", "draws of the model"))


def double_well(module: Any, result: Any) -> Figure:
    """The double well, normalised by the estimate."""
    log_density = {"exp(F) / Z": lambda x: module.double_well(x) - result.log_z}
    return plots.plot_density_2d(log_density, extent=4.0, num_cells=120)[0].figure


def chains(module: Any, result: Any) -> Figure:
    """Log density along adjusted chains that start at data and at draws from noise. If they are stable, the two overlap."""
    return plots.plot_chains(result).figure


def imputation(module: Any, result: Any) -> Figure:
    """Every hidden cell and its imputations: the dot is their mean, and the bar reaches from their 5 % to their 95 %
    quantile. On the dashed line the mean equals the hidden value. The grey line is the mean of the column.
    """
    truth, draws = result
    low, high = draws.quantile(torch.tensor([0.05, 0.95], dtype=draws.dtype), 0)
    mean = draws.mean(0)
    figure, (axis,) = panels(1, 1, (5.6, 4.8))
    axis.vlines(truth, low, high, color=GRAY, alpha=0.6, label="5 % to 95 % of the imputations")
    axis.plot(truth, mean, "o", color=SAMPLE_COLOR, markersize=5, markeredgewidth=0, label="mean of the imputations")
    ends = [float(truth.min()) - 0.3, float(truth.max()) + 0.3]
    axis.plot(ends, ends, "--", color=DATA_COLOR, linewidth=1, label="imputed = hidden")
    axis.axhline(0, color=GRAY, linewidth=0.6)
    inside = float(((truth >= low) & (truth <= high)).double().mean())
    axis.set(xlabel="hidden value, column spreads from the column mean", ylabel="imputed value, same units")
    axis.set_title(f"{len(truth)} hidden cells, {inside:.0%} inside their bar")
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def two_posteriors(module: Any, result: Any) -> Figure:
    """Posterior draws of the two coefficients by annealing and by NUTS, on common axes."""
    return titled(result, ("posterior by annealing", "posterior by NUTS"))


def banana_product(module: Any, result: Any) -> Figure:
    """Rows of the banana beside draws of its product with the Gaussian expert around (0, 1)."""
    return titled(result, ("data of the banana", "draws of the product"))


def outliers(module: Any, result: Any) -> Figure:
    """Left: log densities of untouched rows and of rows with four cells swapped. Right: the ROC curve of the ranking by log
    density; the diagonal is that of random guessing.
    """
    good, spoiled = (values.double().numpy() for values in result)
    figure, (left, right) = panels(1, 2, (9.4, 3.8))
    everything = np.concatenate([good, spoiled])
    bins = np.linspace(np.quantile(everything, 0.02), everything.max(), 18)
    clipped = [np.clip(values, bins[0], bins[-1]) for values in (good, spoiled)]
    left.hist(clipped[0], bins, color=DATA_COLOR, alpha=0.45, label="untouched rows")
    left.hist(clipped[1], bins, histtype="step", color=SAMPLE_COLOR, linewidth=1.8, label="rows with swapped cells")
    left.set(xlabel="log density, nats (lowest bin: that and lower)", ylabel="rows")
    left.legend(frameon=False, fontsize=8, loc="upper left")
    cuts = np.concatenate([[-np.inf], np.sort(everything), [np.inf]])
    found, wrong = ([(values <= cut).mean() for cut in cuts] for values in (spoiled, good))
    right.plot(wrong, found, color=SAMPLE_COLOR, drawstyle="steps-post")
    right.plot([0, 1], [0, 1], "--", color=GRAY, linewidth=1)
    right.set(xlabel="share of untouched rows flagged", ylabel="share of swapped rows flagged", aspect="equal")
    right.set_title(f"area {np.trapezoid(found, wrong):.3f}")
    return figure


def undersampled(module: Any, result: Any) -> Figure:
    """Magnitudes of one test phantom: truth, zero-filled image of a quarter of the frequencies, posterior mean, and the
    standard deviation over the draws (its own scale).
    """
    figure, axes = panels(1, len(result), (2.7 * len(result), 2.7))
    largest = float(result["truth"].max())
    for axis, (name, image) in zip(axes, result.items(), strict=True):
        is_spread = name == "standard deviation"
        shown = axis.imshow(
            image.numpy(), cmap="magma" if is_spread else "gray", vmin=0, vmax=None if is_spread else largest
        )
        axis.set(title=name, xticks=[], yticks=[])
        bar = figure.colorbar(shown, ax=axis, shrink=0.75)
        bar.ax.tick_params(labelsize=7)
    return figure


def two_evidences(module: Any, result: Any) -> Figure:
    """Both log evidences with their intervals."""
    return plots.plot_intervals({model.name: model.evidence for model in result.models}, "log evidence, nats").figure


def few_steps(module: Any, result: Any) -> Figure:
    """Rows of the data, and draws by DDIM in five calls, by the same walk finetuned by MMD, and by adjusted chains that
    start at these.
    """
    return clouds(result)[0]


def progressive(module: Any, result: Any) -> Figure:
    """Twelve chains from the noisiest level (top) to the data's (bottom), in data units; dark is ink."""
    labels = [f"level {level}" for level in reversed(range(len(result)))]
    return pictures(result, labels)


def inpainted(module: Any, result: Any) -> Figure:
    """First column: the digit. Other columns: its upper half, completed by draws from the conditional."""
    figure = pictures(list(result), [f"digit {index + 1}" for index in range(len(result))])
    figure.axes[0].set_title("truth", fontsize=9)
    figure.axes[1].set_title("drawn", fontsize=9)
    return figure


def interpolated(module: Any, result: Any) -> Figure:
    """From one draw (left) to another (right): the starting noise moves along a great circle, and all other random numbers
    are held fixed. The number above each digit is its place u on the way.
    """
    figure, axes = panels(1, len(result), (1.05 * len(result), 1.5))
    for axis, picture, place in zip(axes, result, torch.linspace(0, 1, len(result)).tolist(), strict=True):
        axis.imshow(picture.reshape(8, 8).double().numpy(), cmap="gray_r", vmin=0, vmax=16)
        axis.set(title=f"{place:.3g}", xticks=[], yticks=[], frame_on=False)
    return figure


def by_level(module: Any, result: Any) -> Figure:
    """Learned constants and the papers' recursion, each minus annealing's log Z, level by level. The band is two standard
    errors of annealing's four replicates.
    """
    annealed, learned, recursed, spread = (column.numpy() for column in result.T)
    levels = np.arange(len(annealed))
    figure, (axis,) = panels(1, 1, (6.6, 3.6))
    axis.fill_between(levels, -spread, spread, color=GRAY, alpha=0.3, linewidth=0, label="annealing, 2 standard errors")
    axis.axhline(0, color=GRAY, linewidth=1)
    axis.plot(levels, learned - annealed, "o-", color=SAMPLE_COLOR, label="learned constants", markersize=4)
    axis.plot(levels, recursed - annealed, "s-", color=DATA_COLOR, label="recursion", markersize=4)
    axis.set(xlabel="level (0: reported)", ylabel="log Z less annealing's, nats", xticks=levels)
    axis.legend(frameon=False, fontsize=8)
    return figure


def ablation(module: Any, result: Any) -> Figure:
    """The gap E[log p - log model] on test rows in nats, by number of levels T, and by number of Langevin steps K or with
    score matching (DSM). Small is good. A gap below 0 means that log Z is too low.
    """
    levels, steps = (list(dict.fromkeys(key[place] for key in result)) for place in (0, 1))
    figure, (axis,) = panels(1, 1, (1.6 + 1.3 * len(steps), 1.0 + 0.8 * len(levels)))
    gaps = np.array([[np.nan if result[t, k] is None else result[t, k] for k in steps] for t in levels])
    shown = axis.imshow(gaps, cmap="Oranges", aspect="auto", vmin=min(0.0, np.nanmin(gaps)), vmax=1.4 * np.nanmax(gaps))
    for row in range(len(levels)):
        for column in range(len(steps)):
            text = "diverged" if np.isnan(gaps[row, column]) else f"{gaps[row, column]:.3f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=10)
    axis.set_xticks(range(len(steps)), steps)
    axis.set_yticks(range(len(levels)), [f"T = {t}" for t in levels])
    figure.colorbar(shown, ax=axis, label="gap, nats")
    return figure


def ddim(module: Any, result: Any) -> Figure:
    """Three walks of different lengths from the same noise, and (right) the latent interpolation between two rows. The
    straight line between them leaves the ring.
    """
    draws, ends, way = result
    named = {f"{steps} steps": rows for steps, rows in draws.items()}
    figure, axes = clouds(named | {"between two rows": draws[max(draws)]})
    for axis in axes:
        axis.collections[0].set(color=SAMPLE_COLOR)
    axes[-1].collections[0].set(color=GRAY, alpha=0.3)
    axes[-1].plot(*ends.T.tolist(), "--", color=GRAY, linewidth=1, label="straight line")
    axes[-1].plot(*way.T.tolist(), ".-", color=SAMPLE_COLOR, linewidth=1, markersize=5, label="latent")
    axes[-1].plot(*ends.T.tolist(), "o", color=DATA_COLOR, markersize=6, label="rows")
    axes[-1].legend(frameon=False, fontsize=7, loc="lower right")
    return figure


def diffusion_sampler(module: Any, result: Any) -> Figure:
    """Left: ends of trained walks, on the target's density. Right: the upper bound of log Z while the control is learned,
    from draws of chains, one batch per step. The horizontal lines are the two bounds of the trained walk: the lower one from
    its own ends, the upper one from exact draws of the target. They enclose log Z = 2.
    """
    bounds, draws, found = result
    figure, (left, right) = panels(1, 2, (9.2, 4.0))
    ticks = torch.linspace(-4, 4, 120, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks)
    left.contourf(ticks, ticks, module.petals().log_prob(grid).exp().reshape(120, 120).T, 8, cmap="Blues")
    left.scatter(*draws[:600].T.tolist(), s=4, color=SAMPLE_COLOR, alpha=0.6, linewidths=0)
    left.set(title="target (blue) and ends of walks (red)", xlabel="x0", ylabel="x1", aspect="equal")
    right.plot(bounds, color=GRAY, linewidth=0.8, label="upper bound of one batch")
    right.axhline(found["EUBO"], color=DATA_COLOR, linewidth=1, label="upper bound of the trained walk")
    right.axhline(2.0, color="black", linestyle="--", linewidth=1, label="log Z = 2")
    right.axhline(found["ELBO"], color=SAMPLE_COLOR, linewidth=1, label="lower bound of the trained walk")
    right.set(xlabel="gradient step", ylabel="nats", ylim=(found["ELBO"] - 0.8, float(np.quantile(bounds, 0.95)) + 0.2))
    right.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def frequency_averages(module: Any, result: Any) -> Figure:
    """Left: draws by ten DDIM steps from the same noise, without averages, with fixed weights, and with calibrated ones.
    Right: the standard deviation of the cosine coefficients of draws and data in model space, from low to high frequencies.
    Fixed weights take spread away, where the low bands have too little already. Calibrated weights bring these bands near
    the data, and make the highest ones too wide.
    """
    named, spreads = result
    names = list(named)
    figure = Figure(figsize=(9.6, 4.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1))
    axes = left.subplots(len(names), 1)
    for axis, name in zip(axes, names, strict=True):
        tiles = named[name][:20].reshape(2, 10, 8, 8).permute(0, 2, 1, 3).reshape(16, 80)
        axis.imshow(tiles.numpy(), cmap="gray_r", vmin=0, vmax=16)
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    axis = right.subplots()
    for name, color, marker in zip(names, (GRAY, DATA_COLOR, SAMPLE_COLOR, "#009e73"), "^sov", strict=True):
        axis.plot(spreads[name].numpy(), marker=marker, color=color, label=name, markersize=4)
    axis.set(xlabel="frequency band (0: lowest)", ylabel="standard deviation, model space", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8)
    return figure


def student(module: Any, result: Any) -> Figure:
    """Two sets of draws of the density, and one-call draws of the student."""
    return clouds(result)[0]


def digit_rows(found: dict[str, Tensor]) -> Figure:
    """Pictures by name as rows; the last, "standard deviation", has a scale of its own."""
    figure, spread = pictures(list(found.values()), list(found)), found["standard deviation"]
    for axis in figure.axes[-len(spread) :]:
        axis.images[0].set(cmap="magma", clim=(0, float(spread.max())))
    bar = figure.colorbar(figure.axes[-1].images[0], ax=figure.axes, shrink=0.7)
    bar.set_label("standard deviation, grey levels", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def ambient(module: Any, result: Any) -> Figure:
    """Held-out digits: truth, what was measured (blue: hidden pixels), the mean of each pixel's measured values, mean of the
    draws, its error, and the standard deviation of the draws on the same scale. It is far below the error: guidance through
    one further mask finds a completion, but not its uncertainty.
    """
    figure, error = pictures(list(result.values()), list(result)), result["error"]
    spreads = figure.axes[-2 * len(error) :]
    for axis in spreads:
        axis.images[0].set(cmap="magma", clim=(0, float(error.max())))
    bar = figure.colorbar(spreads[0].images[0], ax=figure.axes, shrink=0.7)
    bar.set_label("error and standard deviation, grey levels of 16", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def deblurred(module: Any, result: Any) -> Figure:
    """Truth; the blurred and noisy measurement; the posterior mean under a Gaussian; the mean of guided draws; the posterior
    mean under the fitted density, and the posterior's standard deviation.
    """
    return digit_rows(result)


def cooperative(module: Any, result: Any) -> Figure:
    """Held-out digits; draws of the base; draws by proposals alone; draws with Langevin steps after every proposal."""
    return pictures(list(result.values()), list(result))


def conditional(module: Any, result: Any) -> Figure:
    """Draws of x1 given x0 = 1/2 (histogram), the model's normalised conditional density, and the exact one."""
    figure, (axis,) = panels(1, 1, (7.2, 3.6))
    axis.hist(result["draws"].numpy(), 80, (-5, 5), density=True, color=GRAY, alpha=0.4, label="draws")
    axis.plot(result["grid"], result["exact"], color=DATA_COLOR, linewidth=2.2, label="exact p(x1 | x0)")
    axis.plot(result["grid"], result["model"], "--", color=SAMPLE_COLOR, linewidth=1.4, label="model's p(x1 | x0)")
    axis.set(xlabel="x1", ylabel="density")
    axis.legend(frameon=False, fontsize=8, loc="upper center")
    return figure


FIGURES: dict[str, Callable[[Any, Any], Figure]] = {
    "01": fitted_toy,
    "02": double_well,
    "03": chains,
    "04": imputation,
    "05": two_posteriors,
    "06": banana_product,
    "07": outliers,
    "08": undersampled,
    "09": two_evidences,
    "10": few_steps,
    "11": progressive,
    "12": inpainted,
    "13": interpolated,
    "14": chains,
    "15": by_level,
    "16": ablation,
    "17": ddim,
    "18": diffusion_sampler,
    "19": frequency_averages,
    "20": student,
    "21": ambient,
    "22": deblurred,
    "23": cooperative,
    "24": conditional,
}
