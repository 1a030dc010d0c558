"""Stacks of bagged mixtures: honest left-out scores, weights, budgets, small tables."""

import pytest
import torch

from drl_density.bases.fitting import Candidate, StackSettings, fit_mixtures, fit_stacked_mixture, refit_stack
from drl_density.testing import assert_z, seeded_generator

QUICK = StackSettings(num_components=(1, 2, 3), ridges=(1e-2, 1e-1), num_bags=12, num_final_bags=20)


def system(count, seed):
    """Rows of a mixture of two Gaussians in 3-D, and their exact log density."""
    generator = seeded_generator(seed)
    means = torch.tensor([[-1.5, 0.0, 0.0], [1.5, 0.5, 0.0]])
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor([0.4, 0.6])),
        torch.distributions.Independent(torch.distributions.Normal(means, 0.7), 1),
    )
    chosen = torch.multinomial(torch.tensor([0.4, 0.6]), count, replacement=True, generator=generator)
    rows = means[chosen] + 0.7 * torch.randn(count, 3, generator=generator)
    return rows, mixture.log_prob(rows).double()


def test_the_left_out_score_is_that_of_new_rows():
    """No row takes part in its own score: it agrees with fresh rows, where the fit's own rows score higher."""
    rows, _ = system(150, 0)
    stack = fit_stacked_mixture(rows[None], settings=QUICK, generator=seeded_generator(1))
    fresh, _ = system(20_000, 2)
    new = stack.base.log_prob(fresh).double()
    gap = stack.log_likelihood - float(new.mean())
    assert_z(torch.tensor(gap), 0.0, (stack.standard_error**2 + float(new.var()) / 20_000) ** 0.5)
    assert float(stack.base.log_prob(rows).mean()) > stack.log_likelihood


def test_many_rows_come_close_to_the_truth():
    rows, _ = system(4000, 3)
    stack = fit_stacked_mixture(rows[None], settings=QUICK, generator=seeded_generator(4))
    fresh, truth = system(5000, 5)
    assert float((truth - stack.base.log_prob(fresh).double()).mean()) < 0.02  # 19 parameters over 2 * 4000 rows: 0.003


def test_a_stack_beats_one_mixture_on_few_rows():
    rows, _ = system(60, 6)
    fresh, _ = system(5000, 7)
    stack = fit_stacked_mixture(rows[None], settings=QUICK, generator=seeded_generator(8))
    one = fit_mixtures(rows, torch.ones(1, 60), 3, ridge=1e-2, generator=seeded_generator(9))
    assert float(stack.base.log_prob(fresh).mean()) > float(one.log_prob(fresh).mean()) + 0.1


def test_weights_and_scores_of_the_candidates():
    rows, _ = system(200, 10)
    stack = fit_stacked_mixture(rows[None], settings=QUICK, generator=seeded_generator(11))
    assert sum(each.weight for each in stack.candidates) == pytest.approx(1.0)
    # The best weights of a stack score at least as well as any kind alone.
    assert stack.log_likelihood >= max(each.log_likelihood for each in stack.candidates) - 1e-6
    assert {each.num_components for each in stack.candidates} >= {1, 2}


def test_a_stack_refitted_to_other_rows_has_the_same_kinds_in_the_same_shares():
    rows, _ = system(400, 12)
    kinds = [Candidate(1, 0.5, 0.75, 0.0), Candidate(2, 1e-3, 0.25, 0.0), Candidate(3, 1e-3, 0.0, 0.0)]
    base = refit_stack(rows[None], kinds, num_bags=20, generator=seeded_generator(13))
    assert base.num_components == 15 + 2 * 5
    # The two ridges are told apart by the smallest variance in any direction.
    is_wide = torch.linalg.eigvalsh(base.covariances())[:, 0] > 0.7
    assert int(is_wide.sum()) == 15
    assert float(base.log_weights.exp()[is_wide].sum()) == pytest.approx(0.75)
    few = refit_stack(rows[None, :8], [*kinds[:1], Candidate(5, 1e-3, 0.25, 0.0)], num_bags=4)
    assert few.num_components == 4
    with pytest.raises(ValueError, match="no kind of mixture has few enough components for 8 rows"):
        refit_stack(rows[None, :8], [Candidate(5, 1e-3, 1.0, 0.0)])


def test_weighted_rows_count_as_repeated_ones():
    """Rows of one cluster with nine times the weight carry nine tenths of the mass."""
    generator = seeded_generator(12)
    rows = torch.randn(400, 1, generator=generator) * 0.3 + 4 * (torch.arange(400) % 2)[:, None]
    weights = torch.where(torch.arange(400) % 2 == 1, 9.0, 1.0)
    stack = fit_stacked_mixture(rows[None], weights=weights, settings=QUICK, generator=generator)
    share = (stack.base.sample(20_000, generator=generator) > 2).double().mean()
    assert abs(float(share) - 0.9) < 0.03  # the bags' own error: sqrt(0.09 / 400) = 0.015


def test_equal_seeds_give_equal_stacks():
    rows, _ = system(50, 13)
    one, two = (fit_stacked_mixture(rows[None], settings=QUICK, generator=seeded_generator(14)) for _ in range(2))
    assert torch.equal(one.base.log_prob(rows), two.base.log_prob(rows))


def test_budgets_bound_the_final_mixture():
    rows, _ = system(100, 15)
    small = StackSettings((1, 2), (0.1,), num_bags=8, num_final_bags=50, most_parameters=9 * 12)
    stack = fit_stacked_mixture(rows[None], settings=small, generator=seeded_generator(16))
    assert stack.base.num_components <= 2 * 12
    cheap = StackSettings(num_components=(1, 2, 3), most_work=1.0)
    stack = fit_stacked_mixture(rows[None], settings=cheap, generator=seeded_generator(17))
    assert {each.num_components for each in stack.candidates} == {1}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_tiny_tables_have_a_density(count):
    rows, _ = system(count, 18)
    stack = fit_stacked_mixture(rows[None], generator=seeded_generator(19))
    assert bool(stack.base.log_prob(rows).isfinite().all())


def test_one_row_is_refused():
    with pytest.raises(ValueError, match="at least two rows, got 1"):
        fit_stacked_mixture(torch.zeros(1, 1, 3))


def test_without_time_for_a_search_there_is_one_size():
    rows = torch.randn(1, 60, 2, generator=seeded_generator(0))
    settings = StackSettings((1, 2), (0.01,), num_final_bags=4)
    for seconds, sizes in ((0.0, {1}), (60.0, {1, 2})):
        stack = fit_stacked_mixture(rows, settings=settings, max_seconds=seconds, generator=seeded_generator(1))
        assert {each.num_components for each in stack.candidates} == sizes
