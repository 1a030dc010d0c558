"""Figures of a training history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drl_density.plots.canvas import DATA_COLOR, SAMPLE_COLOR, add_legend, axes_grid

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


def plot_training(history: xr.Dataset) -> list[Axes]:
    """Plots training curves: scores, losses and, by level, gaps, acceptance, steps and constants.

    Args:
        history: history of a fit, ``density.history``.

    Returns:
        Six axes of one figure.

    >>> import xarray
    >>> scores = xarray.Dataset({"validation_log_likelihood": ("step", [-2.0, -1.0])}, coords={"step": [0, 10]})
    >>> len(plot_training(scores))
    6
    """
    axes = axes_grid(2, 3, (12, 6.2))
    steps = history["step"].values
    _lines(
        axes[0], steps, history, {"selected_log_likelihood": "selected level", "validation_log_likelihood": "level 0"}
    )
    axes[0].set_title("validation log-likelihood, nats (model space)")
    part, title = "classification", "noise-level cross-entropy, nats"
    held_out = "validation_cross_entropy"
    if "validation_contrast" in history:
        part, title, held_out = "contrast", "contrast of data with the reference, nats", "validation_contrast"
    _lines(axes[1], steps, history, {held_out: "held-out", f"loss_{part}": "training"})
    axes[1].set_title(title)
    by_level = {
        "energy_gap": "energy gap F(data) - F(chain end)",
        "acceptance_rate": "acceptance rate",
        "step_size": "step size / conditional scale",
        "log_normalizer": "learned constants c",
    }
    for axis, (name, title) in zip(axes[2:], by_level.items(), strict=True):
        if name in history:
            _level_lines(axis, steps, history[name].values)
        axis.set_title(title)
    for axis in axes:
        axis.set_xlabel("step")
    return axes


def _lines(axes: Axes, steps: np.ndarray, history: xr.Dataset, labels: dict[str, str]) -> None:
    for (name, label), color in zip(labels.items(), (SAMPLE_COLOR, DATA_COLOR), strict=False):
        if name in history:
            axes.plot(steps, history[name].values, color=color, label=label, linewidth=1.6)
    if axes.lines:
        add_legend(axes)


def _level_lines(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    from matplotlib import colormaps

    num_levels = values.shape[1]
    for level in range(num_levels):
        color = colormaps["viridis"](level / max(1, num_levels - 1))
        label = f"level {level}" if level in (0, num_levels - 1) else None
        axes.plot(steps, values[:, level], color=color, linewidth=1.1, label=label)
    add_legend(axes)
