"""A density made of several trained members, whose energies are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from drl_density.bases import AveragedTilts, Base, NoisedGaussianMixture, Tilted
from drl_density.model import EnergySequence
from drl_density.networks import Ensemble, MeanNormalizers
from drl_density.networks.contract import is_bounded


def join(models: Sequence[EnergySequence]) -> EnergySequence:
    """One sequence whose energy is the mean of the members' energies.

    The mean of energies is the geometric mean of densities. Members on equal bases share one, and their networks are
    averaged on it. Bounded networks on different Gaussian mixtures are averaged on the even mixture of these, so that its
    draws can stand for the average. Any other average has no base. A single member is returned as it is.

    Raises:
        ValueError: members without a base, or none at all.
    """
    if not models:
        raise ValueError("expected at least one member to join, got none")
    if len(models) == 1:
        return models[0]
    bases = [model.base for model in models if model.base is not None]
    if len(bases) < len(models):
        raise ValueError(f"expected members with a base each, {len(models) - len(bases)} of {len(models)} have none")
    return join_on_base(models, bases[0]) if are_equal(bases) else join_apart(models)


def join_on_base(models: Sequence[EnergySequence], base: Base) -> EnergySequence:
    """The mean of members that share one base; a single member is returned as it is.

    Args:
        base: the base of every member.
    """
    if len(models) == 1:
        return models[0]
    return _joined(models, Ensemble([model.network for model in models]), base)


def join_apart(models: Sequence[EnergySequence]) -> EnergySequence:
    """The mean of members with a base each; a single member is returned as it is."""
    if len(models) == 1:
        return models[0]
    parts = [Tilted(model.base, model.network) for model in models if model.base is not None]
    mixtures = [part.base for part in parts if isinstance(part.base, NoisedGaussianMixture)]
    if len(mixtures) == len(parts) and all(is_bounded(part.network) for part in parts):
        return _joined(models, AveragedTilts(parts), NoisedGaussianMixture.even(mixtures))
    return _joined(models, Ensemble(parts), None)


def are_equal(bases: Sequence[Base]) -> bool:
    """Whether all bases are the same density: the same kind, sizes and tensors.

    >>> from drl_density.bases import QuadraticBase
    >>> [are_equal([QuadraticBase(2, 10.0), QuadraticBase(2, scale)]) for scale in (10.0, 20.0)]
    [True, False]
    """
    first, state = bases[0], bases[0].state_dict()
    return all(
        base.to_state() == first.to_state()
        and all(torch.equal(value, state[name]) for name, value in base.state_dict().items())
        for base in bases[1:]
    )


def _joined(models: Sequence[EnergySequence], network: Ensemble, base: Base | None) -> EnergySequence:
    first = models[0]
    joined = EnergySequence(first.schedule, network, first.event_shape, base=base, has_base=base is not None)
    joined.add_module("constants", MeanNormalizers([model.constants for model in models]))
    return joined
