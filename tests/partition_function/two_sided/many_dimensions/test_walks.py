"""Walks along an exact sequence in 64 dimensions: shapes, sizes, and that no start is shared."""

import pytest
import torch

from drl_density.errors import NumericalError
from drl_density.model import EnergySequence
from drl_density.partition_function import SandwichSettings
from drl_density.partition_function.sequence_paths.chains import LevelZeroChains
from drl_density.partition_function.two_sided.many_dimensions import walks as module
from drl_density.partition_function.two_sided.many_dimensions.walks import (
    has_many_dimensions,
    paths_per_replicate,
    walk_sequence,
)
from drl_density.testing import GaussianMixtureSequence, seeded_generator
from tests.partition_function.two_sided.many_dimensions.exact_analysers import Exact, analysers, sequence, small_walks

FEW = SandwichSettings(num_particles=16, num_replicates=2, path_steps_per_level=2, num_mixing_steps=1)


def test_dimensions_decide():
    assert [has_many_dimensions(GaussianMixtureSequence.example(dim=dim).model) for dim in (47, 48)] == [False, True]


def test_a_replicate_takes_a_path_for_every_eight_particles():
    assert [paths_per_replicate(SandwichSettings(num_particles=count)) for count in (2, 96, 100, 512)] == [
        8,
        12,
        13,
        64,
    ]


def test_everything_is_walked_in_its_shape():
    walks = small_walks()
    for weights in (walks.forward, walks.reverse, walks.reverse_from_data):
        assert weights is not None
        assert weights.increments.shape == (8, 12, 60)
    assert walks.reverse_from_rows is not None
    assert walks.reverse_from_rows.increments.shape == (8, 8, 60)
    assert walks.resampled.log_weights.shape == walks.conditional.log_weights.shape == (8, 12)
    assert walks.draws.shape == (8, 12, 64)
    assert 0.4 < walks.acceptance < 0.8
    assert walks.plan.is_from_data
    assert len(walks.annealing.levels) == 21


def test_densities_that_share_no_mass_leave_the_multistate_ratio_out(monkeypatch):
    def fail(path, kept, *, generator=None):
        raise NumericalError("the multistate equations were not solved")

    monkeypatch.setattr(module, "equilibrium_estimates", fail)
    seen = []
    walks = walk_sequence(sequence(analysers()), settings=FEW, generator=seeded_generator(2), watch=seen.append)
    assert walks.annealing.equilibrium is None
    assert walks.reverse_from_data is walks.reverse_from_rows is None
    stages = [progress.stage for progress in seen]
    assert {"paths down", "particles down", "chains at level 0", "particles down around a row"} == set(stages)
    assert stages.count("paths down") == 20
    assert torch.isfinite(walks.conditional.log_z).all()


def test_chains_take_four_times_the_steps_and_the_slower_ones_count(monkeypatch):
    steps, original = [], LevelZeroChains.moved

    def recorded(self, starts, num_steps, *, generator=None):
        steps.append(num_steps)
        return original(self, starts, num_steps, generator=generator)._replace(acceptance=0.6 / len(steps))

    monkeypatch.setattr(LevelZeroChains, "moved", recorded)
    base, generator = analysers(), seeded_generator(3)
    rows = base.sample(40, generator=generator)
    walks = walk_sequence(sequence(base), data=rows, settings=FEW, generator=generator)
    assert steps == [4, 4]
    assert walks.acceptance == pytest.approx(0.3)


def test_an_improper_model_is_refused_before_anything_is_walked():
    model = EnergySequence(sequence(analysers()).schedule, Exact(analysers()), (64,), has_base=False)
    seen = []
    with pytest.raises(NumericalError, match="improper"):
        walk_sequence(model, settings=FEW, watch=seen.append)
    assert seen == []
