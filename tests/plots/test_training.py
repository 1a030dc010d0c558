"""Training curves."""

import numpy as np
import xarray as xr

from drl_density.plots.training import plot_training


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_training_curves_are_those_of_the_history():
    gaps = np.arange(8.0).reshape(2, 4)
    history = xr.Dataset(
        {
            "selected_log_likelihood": ("step", [1.0, 2.0]),
            "loss_classification": ("step", [0.5, 0.4]),
            "energy_gap": (("step", "level"), gaps),
        },
        coords={"step": [10, 20]},
    )
    axes = plot_training(history)
    assert legend(axes[0]) == ["selected level"]
    assert axes[0].lines[0].get_xydata().tolist() == [[10.0, 1.0], [20.0, 2.0]]
    assert legend(axes[1]) == ["training"]
    assert [line.get_ydata().tolist() for line in axes[2].lines] == gaps.T.tolist()
    assert legend(axes[2]) == ["level 0", "level 3"]
    assert axes[2].get_title().startswith("energy gap")
    assert not axes[3].lines
    assert {axis.get_xlabel() for axis in axes} == {"step"}
