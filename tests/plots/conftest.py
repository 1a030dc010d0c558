"""A small tree with every group that a figure shows."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr


@pytest.fixture(scope="session")
def report_like():
    """A function that makes something with a tree, like a report and a diagnosis in one."""
    return lambda lower=0.5: SimpleNamespace(tree=sandwich_tree(lower))


def sandwich_tree(lower=0.5):
    ais = {"ess_fraction": ("level", [0.9, 0.5]), "acceptance_rate": ("level", [0.6, 0.7])}
    ais["overlap"] = (("density", "other"), np.array([[0.64, 0.36], [0.25, 0.75]]))
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"log_z": 1.0, "log_z_lower": lower, "log_z_upper": 1.5}),
            "estimates": xr.Dataset(
                {"value": ("estimator", [1.4, 0.6, 1.0]), "standard_error": ("estimator", [0.1, 0.2, 0.05])},
                coords={"estimator": ["upper, reverse", "lower, annealing", "bridge"]},
            ),
            "ais": xr.Dataset(ais, coords={"level": [0, 1]}),
            "paths": xr.Dataset(
                {"forward_log_weights": ("path", np.linspace(-1, 1, 50)), "reverse": ("path", np.linspace(0, 2, 50))}
            ),
            "log_likelihood": xr.Dataset({"x": ("row", [-3.0, -1.0, -2.0])}),
            "sample_stats": xr.Dataset(
                {"lp": (("chain", "draw"), np.arange(6.0).reshape(2, 3)), "start": ("chain", ["data", "noise"])},
                coords={"draw": [0, 5, 10]},
            ),
            "segments": xr.Dataset(
                {
                    "level": ("segment", [0.0, 1.0]),
                    "noisier_level": ("segment", [1.0, 2.0]),
                    "gap": ("segment", [6.0, 0.5]),
                    "standard_error": ("segment", [0.1, 0.2]),
                }
            ),
            "occupancy": xr.Dataset(
                {"data": ("mode", [0.3, 0.7]), "chains": ("mode", [0.4, 0.6])}, coords={"mode": [0, 1]}
            ),
        }
    )
