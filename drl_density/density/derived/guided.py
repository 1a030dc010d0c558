"""The density of one label of a fit with labels."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import torch

from drl_density.density.fitted import FittedModel
from drl_density.density.normalizing import normalize
from drl_density.errors import DataError
from drl_density.model import EnergySequence
from drl_density.networks import guide_by_label
from drl_density.records.fields import is_number
from drl_density.shapes import is_integer

Fitted = TypeVar("Fitted", bound=FittedModel)


def guided_model(density: FittedModel, label: int, *, weight: float = 0.0) -> EnergySequence:
    """The sequence of :meth:`Density.guided`, before it is normalised.

    Raises:
        DataError: a label that the fit did not have, or a weight that is no finite number.
    """
    labels = density.provenance.labels
    if not is_number(weight):
        raise DataError(f"weight must be a finite number, got {weight!r}")
    if not is_integer(label) or label not in labels:
        have = f"it was fitted with labels {', '.join(map(str, labels))}" if labels else "it was fitted without labels"
        raise DataError(f"there is no label {label!r} in this density: {have}")
    # Networks count labels from 1, and 0 means unlabelled.
    return density.model.with_network(guide_by_label(density.model.network, labels.index(label) + 1, weight)).eval()


def guided(density: Fitted, label: int, *, weight: float = 0.0, generator: torch.Generator | None = None) -> Fitted:
    """See :meth:`drl_density.density.Density.guided`."""
    model = guided_model(density, label, weight=weight)
    found = normalize(model, density.transform, density.settings.normalizing_sizes(), generator=generator)
    provenance = dataclasses.replace(density.provenance, labels=(), label=label, guidance=weight)
    return dataclasses.replace(
        density,
        model=model,
        estimate=found.estimate,
        plan=found.plan,
        pool=found.pool,
        provenance=provenance,
        reference=None,  # the scores of the test rows are those of the density of all labels
    )
