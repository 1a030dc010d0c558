"""Steps of a path: the reverse step by Bayes' rule, and rows at both of its ends."""

import torch

from drl_density.testing import seeded_generator
from drl_density.training import PathMatching
from drl_density.training.objectives.paths.steps import noised_pair
from tests.training.objectives.paths.sequences import sequence


def test_the_mean_of_the_reverse_step_is_bayes_rule():
    """The posterior of x_t given x_u and the clean row, from the product of two normal densities."""
    model, objective = sequence(), PathMatching(steps_per_level=1)
    step = objective.step(model, 1)
    precision = 1 / step.sigmas[0] ** 2 + step.scale**2 / step.noise**2
    first, second = step.factors
    assert abs(step.variance - 1 / precision) < 1e-9
    assert abs(first - step.scale / step.noise**2 / precision) < 1e-9
    assert abs(second - step.alphas[0] / step.sigmas[0] ** 2 / precision) < 1e-9


def test_both_ends_of_a_step_have_the_noise_of_their_levels():
    model = sequence()
    step = PathMatching(steps_per_level=2).step(model, 3)
    cleaner, noisier = noised_pair(torch.ones(4000, 6), step, seeded_generator(0))
    for end, level in ((cleaner, 1.5), (noisier, 2.0)):
        alpha, sigma = float(model.schedule.alpha_at(level)), float(model.schedule.sigma_at(level))
        # 24,000 numbers: the mean has an error of sigma / 155, and the variance one of 0.009 sigma^2.
        assert abs(float(end.mean()) - alpha) < 4 * sigma / 155
        assert abs(float(end.var()) / sigma**2 - 1) < 4 * 0.0092
