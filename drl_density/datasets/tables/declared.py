"""Checks what a user declares about the columns of a table."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drl_density.datasets.column import KINDS, Column
from drl_density.errors import DataError


def check_declared(overrides: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> None:
    """Refuses declared properties of unknown columns, of unknown names, and values that no column can have.

    Args:
        overrides: declared properties by the name of the column.
        names: columns of the table.

    Raises:
        DataError: what was declared, and what can be.

    >>> check_declared({"age": {"lower": 0.0}}, ["age", "dose"])
    """
    known = {field.name for field in dataclasses.fields(Column)} - {"name"}
    for name, properties in overrides.items():
        if name not in names:
            close = difflib.get_close_matches(name, names)
            hint = f"; did you mean {', '.join(close)}?" if close else f"; columns are {', '.join(names)}"
            raise DataError(f"there is no column {name!r}{hint}")
        unknown = set(properties) - known
        if unknown:
            raise DataError(f"column {name!r}: unknown properties {sorted(unknown)}, expected some of {sorted(known)}")
        _check_declared_numbers(name, properties)
        if properties.get("kind", "continuous") not in KINDS:
            raise DataError(f"column {name!r}: kind must be one of {KINDS}, got {properties['kind']!r}")
        if not properties.get("lower", -math.inf) < properties.get("upper", math.inf):
            raise DataError(f"column {name!r}: lower must be below upper, got {dict(properties)}")


def _check_declared_numbers(name: str, properties: Mapping[str, Any]) -> None:
    """Refuses declared bounds, widths and values that are no numbers, and widths below zero."""
    for key in {"lower", "upper", "width", "offset"} & set(properties):
        value = properties[key]
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or math.isnan(value):
            raise DataError(f"column {name!r}: {key} must be a number, got {value!r}")
        if key in ("width", "offset") and not math.isfinite(value) or key == "width" and value < 0:
            words = "finite, and not negative" if key == "width" else "finite"
            raise DataError(f"column {name!r}: {key} must be {words}, got {value!r}")
    try:
        np.asarray(properties.get("values", ()), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"column {name!r}: values must be a list of numbers, got {properties['values']!r}; labels are declared with "
            "'categories'"
        ) from error
