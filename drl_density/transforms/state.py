"""Transforms from plain values and tensors, without pickle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from drl_density.errors import RunFolderError
from drl_density.transforms.composed import Composed
from drl_density.transforms.data_transform import DataTransform
from drl_density.transforms.elementary import Affine, Logit, Whitening
from drl_density.transforms.gaussianize import MarginalGaussianization
from drl_density.transforms.grid_histograms import GridHistograms

_READERS: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], DataTransform]] = {
    part.kind: part.from_state for part in (Affine, Whitening, Logit, MarginalGaussianization, GridHistograms)
}


def transform_from_state(settings: dict[str, Any], tensors: dict[str, Tensor]) -> DataTransform:
    """Builds the transform whose ``to_state`` gave these values.

    Args:
        settings: plain values, among them the ``kind`` of the transform.
        tensors: tensors by the names that ``to_state`` gave them.

    Raises:
        RunFolderError: for a kind that this version does not have.

    >>> again = transform_from_state(*Logit(0.0, 2.0).to_state())
    >>> float(again.bounds.upper)
    2.0
    """
    kind = settings.get("kind")
    if kind == Composed.kind:
        return Composed([_part(inner, tensors, f"{index}.") for index, inner in enumerate(settings["parts"])])
    if kind not in _READERS:
        raise RunFolderError(f"unknown kind of transform {kind!r}: the folder was written by another version")
    return _READERS[kind](settings, tensors)


def _part(settings: dict[str, Any], tensors: dict[str, Tensor], prefix: str) -> DataTransform:
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return transform_from_state(settings, own)
