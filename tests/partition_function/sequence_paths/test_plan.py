"""Plans of paths: rows that plan are never walked from."""

import torch

from drl_density.mcmc import MALA
from drl_density.partition_function.sequence_paths.plan import plan_paths
from drl_density.testing import seeded_generator
from tests.partition_function.sequence_paths.gaussian_paths import SYSTEM, exact_errors


def test_half_of_the_rows_plan_and_the_others_are_left():
    data = SYSTEM.sample(100, None, generator=seeded_generator(0))
    plan = plan_paths(SYSTEM.model, kernel=MALA(), num_steps=30, data=data, generator=seeded_generator(1))
    assert plan.is_from_data
    assert plan.rows is not None
    assert len(plan.rows) == 50
    assert plan.kernels.grid.num_steps == 30
    truth = exact_errors(plan.kernels.grid)
    # Fifty rows leave an error of 20 %, and half of every error is the mean over coordinates.
    torch.testing.assert_close(plan.kernels.errors.mean(1), truth.mean(1), rtol=0.6, atol=0)


def test_no_replicate_takes_a_row_twice_where_there_are_enough():
    data = torch.arange(40.0)[:, None].expand(40, 3).double()
    plan = plan_paths(SYSTEM.model, kernel=MALA(), num_steps=6, data=data, generator=seeded_generator(2))
    assert plan.rows is not None
    assert len(plan.rows) == 20
    clean = torch.arange(20.0)[:, None].expand(20, 3).double() * 1000
    starts = plan.starts(clean, (4, 10), generator=seeded_generator(3))
    taken = (starts[..., 0] / SYSTEM.schedule.alpha[0] / 1000).round().long()
    assert taken.shape == (4, 10)
    assert all(len(row.unique()) == 10 for row in taken)
    assert taken.flatten().bincount().tolist() == [2] * 20


def test_few_rows_leave_the_planning_to_the_models_own_chains():
    data = SYSTEM.sample(20, None, generator=seeded_generator(4))
    plan = plan_paths(SYSTEM.model, kernel=MALA(), num_steps=12, data=data, generator=seeded_generator(5))
    assert not plan.is_from_data
    assert plan.rows is not None
    assert len(plan.rows) == 20
    alone = plan_paths(SYSTEM.model, kernel=MALA(), num_steps=12, generator=seeded_generator(5))
    assert alone.rows is None
    torch.testing.assert_close(alone.kernels.errors.mean(1), plan.kernels.errors.mean(1), rtol=0.5, atol=0)
