"""Progress of a watched run."""

import torch

from drl_density import AISSettings, sequence_path
from drl_density.partition_function import anneal, plan_annealing
from drl_density.testing import seeded_generator
from drl_density.weights import combine_replicates
from tests.partition_function.known_answers import SYSTEM


def test_a_watched_run_tells_how_it_stands_and_has_the_same_bits():
    path, told = sequence_path(SYSTEM.model), []
    settings = AISSettings(num_particles=16, num_replicates=4, num_pilot_particles=32)
    plan = plan_annealing(path, settings, generator=seeded_generator(7))
    run = anneal(path, plan, settings, generator=seeded_generator(8), watch=told.append)
    alone = anneal(path, plan, settings, generator=seeded_generator(8))
    assert torch.equal(run.log_weights, alone.log_weights)
    assert [progress.done for progress in told] == list(range(1, len(path.log_densities) + 1))
    for progress, log_z in zip(told, run.log_z_by_density, strict=True):
        assert (progress.log_z, progress.standard_error) == combine_replicates(log_z)
        assert 4 <= progress.ess <= 64
    assert str(told[-1]).startswith(f"log Z = {told[-1].log_z:.3f} ± ")
