"""The density of one label of a fit with labels."""

from __future__ import annotations

import dataclasses

import torch

from drl_density.density.fitted import Density, ToData
from drl_density.density.fitting.forecast import final_annealing, num_pilot
from drl_density.errors import DataError
from drl_density.model import EnergySequence
from drl_density.networks import guide_by_label
from drl_density.partition_function import annealed_importance_sampling, sequence_path
from drl_density.samplers import plan_progressive, sample_progressive


def guided_model(density: Density, label: int, *, weight: float = 0.0) -> EnergySequence:
    """The sequence of :meth:`Density.guided`, not normalised.

    Raises:
        DataError: for a label that the density does not know.
    """
    values = tuple(density.details.get("labels", ()))
    if label not in values:
        have = f"it knows {', '.join(map(str, values))}" if values else "it was fitted without labels"
        raise DataError(f"there is no label {label} in this density: {have}")
    return density.model.with_network(guide_by_label(density.model.network, values.index(label) + 1, weight)).eval()


def guided_density(density: Density, label: int, *, weight: float = 0.0, seed: int = 0) -> Density:
    """See :meth:`Density.guided`."""
    generator = torch.Generator().manual_seed(seed)
    model = guided_model(density, label, weight=weight)
    annealing, per_level = final_annealing(density.settings)
    path = sequence_path(model, steps_per_level=per_level)
    estimate = annealed_importance_sampling(path, settings=annealing, generator=generator)
    pilot = num_pilot(density.settings, density.settings.num_pool_draws)
    plan = plan_progressive(model, generator=generator, num_pilot=pilot)
    found = sample_progressive(model, density.settings.num_pool_draws, plan=plan, generator=generator)
    pool = ToData(density.transform, torch.Size([len(density.columns)]))(found.draws)
    details = {name: value for name, value in density.details.items() if name != "labels"}
    details |= {"label": label, "guidance": weight}
    return dataclasses.replace(density, model=model, estimate=estimate, plan=plan, pool=pool, details=details)
