"""The history of a training run as labelled arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from drl_density.training.state import Record

if TYPE_CHECKING:  # xarray imports pandas, which would slow down `import drl_density`
    import xarray as xr


def history_dataset(history: list[Record]) -> xr.Dataset:
    """Arrange a history as an xarray Dataset over ``step`` and, for numbers per level, ``level``.

    Args:
        history: records of the evaluations, as :class:`TrainingState` keeps them.

    >>> history_dataset([{"step": 10, "loss": 1.0, "acceptance_rate": [0.5, 0.6]}])["acceptance_rate"].dims
    ('step', 'level')
    """
    import xarray as xr  # slow to import

    steps = [record["step"] for record in history]
    variables: dict[str, Any] = {}
    # Stages of a fit record different parts of their losses.
    names = [name for name in dict.fromkeys(name for record in history for name in record) if name != "step"]
    for name in names:
        values = [record.get(name, math.nan) for record in history]
        by_level = next((value for value in values if isinstance(value, list)), None)
        if name == "complaints":
            variables[name] = ("step", ["; ".join(value) for value in values])
        elif by_level is not None:
            unknown = [math.nan] * len(by_level)
            rows = [value if isinstance(value, list) else unknown for value in values]
            variables[name] = (("step", "level"), rows)
        else:
            variables[name] = ("step", values)
    return xr.Dataset(variables, coords={"step": steps})
