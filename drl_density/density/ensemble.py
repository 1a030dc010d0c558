"""A density made of several trained members: their energies averaged, and back from plain values."""

from __future__ import annotations

from collections.abc import Sequence

from drl_density.bases import Tilted
from drl_density.model import EnergySequence, MeanNormalizers
from drl_density.networks import Ensemble


def join(models: Sequence[EnergySequence]) -> EnergySequence:
    """One sequence whose energy is the mean of the members' energies, each with its own base.

    The mean of energies is the geometric mean of densities; a single member is returned as it is.
    """
    if len(models) == 1:
        return models[0]
    first = models[0]
    network = Ensemble([Tilted(model.base, model.network) for model in models])
    joined = EnergySequence(first.schedule, network, first.event_shape, has_base=False)
    joined.constants = MeanNormalizers([model.constants for model in models])
    return joined
