"""A sequence is one density for all samplers and estimators."""

import math
import warnings

import pytest
import torch

from drl_density import ChainSampler
from drl_density.bases import QuadraticBase
from drl_density.errors import DRLDensityWarning, NumericalError
from drl_density.networks import (
    SpectralWeight,
)
from drl_density.partition_function import AISSettings, annealed_importance_sampling, sequence_path, sequence_sandwich
from drl_density.samplers import (
    plan_progressive,
    sample_progressive,
)
from drl_density.testing import seeded_generator
from tests.training.objectives.closed_forms import image_sequence


def test_a_new_sequence_is_one_density_for_samplers_and_estimators():
    """Its spectral norms stand still; each pass in training mode would move them a step."""
    model, generator = image_sequence(), seeded_generator(4)
    spectral = [m for m in model.modules() if isinstance(m, SpectralWeight) and m.is_normalized]
    before = [module.u.clone() for module in spectral]
    sizes = {"num_particles": 4, "num_replicates": 2, "num_transitions": 1, "num_pilot_particles": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRLDensityWarning)
        model.level(0, sampler=ChainSampler(num_warmup=1, num_steps=1)).sample((2,))
        path = sequence_path(model, steps_per_level=1)
        annealed_importance_sampling(path, settings=AISSettings(**sizes), generator=generator)
    plan = plan_progressive(model, generator=generator, num_pilot=4)
    sample_progressive(model, 2, plan=plan, generator=generator)
    assert all(torch.equal(module.u, u) for module, u in zip(spectral, before, strict=True))
    model.train().score(torch.zeros(1, 64), 0.0)
    assert not all(torch.equal(module.u, u) for module, u in zip(spectral, before, strict=True))


def test_a_network_without_a_base_is_improper():
    model = image_sequence(base=False)
    assert not model.is_integrable
    with pytest.raises(NumericalError, match="improper"):
        sequence_sandwich(model)
    assert image_sequence().is_integrable
    assert float(QuadraticBase(64, 10.0)(torch.zeros(1, 64), torch.tensor(50.0))) == pytest.approx(
        -32 * math.log(2 * math.pi * 100), rel=1e-5
    )
