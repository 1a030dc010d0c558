"""Transforms to plain values and tensors, and back, without pickle."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions.transforms import AffineTransform, ComposeTransform, Transform

from drl_density.errors import RunFolderError
from drl_density.transforms.elementary import Logit, Whitening
from drl_density.transforms.gaussianize import MarginalGaussianization
from drl_density.transforms.marginals import Marginals

_MARGINAL_TENSORS = ("centers", "widths", "lower", "upper", "log_weights", "locations", "scales")


def transform_to_state(transform: Transform) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(plain values, tensors) of any transform this package makes.

    Args:
        transform: plain or composed.

    Raises:
        TypeError: for a transform of another kind.

    >>> values, tensors = transform_to_state(Logit(0.0, 2.0))
    >>> sorted(tensors)
    ['lower', 'upper']
    """
    if isinstance(transform, ComposeTransform):
        settings: list[Any] = []
        tensors: dict[str, Tensor] = {}
        for index, part in enumerate(transform.parts):
            inner, values = transform_to_state(part)
            settings.append(inner)
            tensors |= {f"{index}.{name}": value for name, value in values.items()}
        return {"kind": "compose", "parts": settings}, tensors
    if isinstance(transform, AffineTransform):
        return {"kind": "affine"}, {"loc": transform.loc, "scale": transform.scale}
    if isinstance(transform, Whitening):
        return {"kind": "whitening"}, {"mean": transform.mean, "factor": transform.factor}
    if isinstance(transform, Logit):
        return {"kind": "logit"}, {"lower": transform.lower, "upper": transform.upper}
    if isinstance(transform, MarginalGaussianization):
        marginals = transform.marginals
        settings = {
            "kind": "gaussianization",
            "coordinates": list(marginals.coordinates),
            "names": list(transform.names),
        }
        return settings, {name: getattr(marginals, name) for name in _MARGINAL_TENSORS}
    raise TypeError(f"expected one of this package's transforms, got {type(transform).__name__}")


def transform_from_state(settings: dict[str, Any], tensors: dict[str, Tensor]) -> Transform:
    """The inverse of :func:`transform_to_state`.

    Args:
        settings: the plain values.
        tensors: the tensors.

    Raises:
        RunFolderError: for a kind that this version does not know.

    >>> again = transform_from_state(*transform_to_state(Logit(0.0, 2.0)))
    >>> float(again.upper)
    2.0
    """
    kind = settings.get("kind")
    if kind == "compose":
        parts = []
        for index, inner in enumerate(settings["parts"]):
            prefix = f"{index}."
            own = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
            parts.append(transform_from_state(inner, own))
        return ComposeTransform(parts)
    if kind == "affine":
        return AffineTransform(tensors["loc"], tensors["scale"], event_dim=1)
    if kind == "whitening":
        return Whitening(tensors["mean"], tensors["factor"])
    if kind == "logit":
        return Logit(tensors["lower"], tensors["upper"])
    if kind == "gaussianization":
        marginals = Marginals(
            coordinates=tuple(settings["coordinates"]), **{name: tensors[name] for name in _MARGINAL_TENSORS}
        )
        return MarginalGaussianization(marginals, settings["names"])
    raise RunFolderError(f"unknown kind of transform {kind!r}: the folder was written by another version")
