"""Bases from the plain values of their saved states."""

from __future__ import annotations

from typing import Any

from drl_density.bases.atoms import AtomMixture
from drl_density.bases.autoregressive import AutoregressivePixels
from drl_density.bases.blend import BlendedBase
from drl_density.bases.contract import Base
from drl_density.bases.factor_analysers import FactorAnalysers
from drl_density.bases.flows import AutoregressiveFlow
from drl_density.bases.gaussian_mixture import NoisedGaussianMixture
from drl_density.bases.layered import LayeredBase
from drl_density.bases.quadratic import QuadraticBase

KINDS: dict[str, type[Base]] = {
    made.kind: made
    for made in (
        NoisedGaussianMixture,
        FactorAnalysers,
        QuadraticBase,
        AutoregressiveFlow,
        AutoregressivePixels,
        AtomMixture,
        BlendedBase,
        LayeredBase,
    )
}
"""Classes of bases by the name under which they are saved."""


def base_from_state(values: dict[str, Any]) -> Base:
    """Build the base of a saved state, with tensors that wait for ``load_state_dict``.

    Bases that a base is made of are built first.

    Args:
        values: the plain values that :meth:`Base.to_state` returned.

    Raises:
        ValueError: an unknown kind of base.

    >>> base_from_state(QuadraticBase(4, 10.0).to_state()).num_features
    4
    """
    kind = values.get("kind")
    if kind not in KINDS:
        raise ValueError(f"there is no base of kind {kind!r}: expected one of {', '.join(KINDS)}")
    return KINDS[kind].from_state({name: _built(value) for name, value in values.items()})


def _built(value: Any) -> Any:
    """A value with every base in it built: the base of a state, or those of a list of states."""
    if isinstance(value, list):
        return [_built(each) for each in value]
    return base_from_state(value) if isinstance(value, dict) and "kind" in value else value
