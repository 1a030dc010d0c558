"""A density made of several trained members, whose energies are averaged."""

from __future__ import annotations

from collections.abc import Sequence

from drl_density.bases import Tilted
from drl_density.model import EnergySequence
from drl_density.networks import Ensemble, MeanNormalizers


def join(models: Sequence[EnergySequence]) -> EnergySequence:
    """One sequence whose energy is the mean of the members' energies, each with its own base.

    The mean of energies is the geometric mean of densities. A single member is returned as it is.

    Raises:
        ValueError: members without a base, or none at all.
    """
    if not models:
        raise ValueError("expected at least one member to join, got none")
    if len(models) == 1:
        return models[0]
    parts = [Tilted(model.base, model.network) for model in models if model.base is not None]
    if len(parts) < len(models):
        raise ValueError(f"expected members with a base each, {len(models) - len(parts)} of {len(models)} have none")
    first = models[0]
    joined = EnergySequence(first.schedule, Ensemble(parts), first.event_shape, has_base=False)
    joined.add_module("constants", MeanNormalizers([model.constants for model in models]))
    return joined
