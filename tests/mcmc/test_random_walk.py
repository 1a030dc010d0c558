"""Random-walk Metropolis leaves a density invariant without any gradient."""

import torch

from drl_density.mcmc import RandomWalk, RobbinsMonro, Tuner, take_steps
from drl_density.testing import assert_z, seeded_generator


def laplace(x):
    return -x.detach().abs().sum(-1)  # no gradient


def test_draws_have_the_moments_of_the_density():
    generator = seeded_generator(0)
    kernel = RandomWalk().with_scale(torch.tensor([1.0, 2.0]))
    start = torch.distributions.Laplace(0.0, 1.0).sample((4000, 2)) * 0
    taken = take_steps(
        kernel, kernel.init(start, laplace), laplace, num_steps=60, step_size=1.5, generator=generator
    )
    assert_z(taken.state.position.abs()[:, 0], 1.0)
    assert_z(taken.state.position.abs()[:, 1], 1.0)
    assert kernel.gradients_per_step == 0


def test_a_wall_is_never_crossed_and_the_step_size_adapts():
    def halves(x):
        return torch.where(x[:, 0] > 0, laplace(x), -torch.inf)

    generator, kernel = seeded_generator(1), RandomWalk()
    tuner = Tuner(RobbinsMonro(kernel.target_acceptance), 50.0)
    state = kernel.init(torch.ones(200, 1), halves)
    taken = take_steps(kernel, state, halves, num_steps=40, step_size=tuner, generator=generator)
    assert bool((taken.state.position > 0).all())
    assert 0.5 < tuner.current < 20
