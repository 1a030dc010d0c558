"""The loops around a kernel: recording, warm-up, warnings."""

import math

import pytest
import torch

from drl_density.errors import DivergenceWarning
from drl_density.mcmc import MALA, Recording, RobbinsMonro, Tuner, run_chain, take_steps
from drl_density.testing import seeded_generator
from tests.mcmc.targets import normal


def test_recording_thins_and_counts():
    result = run_chain(MALA(), normal, torch.zeros(3, 2), num_steps=10, step_size=0.5, recording=Recording(thin=3))
    assert result.draws.shape == (3, 3, 2)
    assert set(result.stats) == {"acceptance_rate", "step_size", "lp", "energy_error", "energy", "diverging"}
    torch.testing.assert_close(result.stats["lp"][-1], normal(result.draws[-1]))


def test_divergence_is_a_warning():
    with pytest.warns(DivergenceWarning, match="diverged"):
        run_chain(MALA(), lambda x: -1e6 * x.square().sum(1), torch.zeros(4, 2), num_steps=3, step_size=10.0)


def test_start_without_density_is_refused():
    with pytest.raises(ValueError, match="no finite log density"):
        run_chain(MALA(), lambda x: x.sum(1).log(), -torch.ones(2, 2), num_steps=1, step_size=0.1)


def test_steps_are_those_of_the_kernel():
    """The same states and random numbers as a loop written out, and the mean acceptance of each chain."""
    kernel, x = MALA(), torch.randn(6, 2, generator=seeded_generator(0), dtype=torch.float64)
    seen = []
    taken = take_steps(
        kernel,
        kernel.init(x, normal),
        normal,
        num_steps=4,
        step_size=0.9,
        generator=seeded_generator(1),
        on_step=lambda state, info: seen.append((state.position, info.acceptance_probability)),
    )
    state, generator, rates = kernel.init(x, normal), seeded_generator(1), []
    for index in range(4):
        state, info = kernel.step(state, normal, 0.9, generator)
        rates.append(info.acceptance_probability)
        assert torch.equal(seen[index][0], state.position)
    assert torch.equal(taken.state.position, state.position)
    torch.testing.assert_close(taken.acceptance_rate, torch.stack(rates).mean(0))
    assert torch.equal(taken.last_step.acceptance_probability, rates[-1])


def test_a_spread_divides_every_step_size_before_its_step():
    kernel, x = MALA(), torch.zeros(5, 2, dtype=torch.float64)
    taken = take_steps(
        kernel, kernel.init(x, normal), normal, num_steps=2, step_size=0.9, spread=8.0, generator=seeded_generator(2)
    )
    state, generator = kernel.init(x, normal), seeded_generator(2)
    for _ in range(2):
        sizes = 0.9 * 8.0 ** -torch.rand(5, generator=generator)
        state, _ = kernel.step(state, normal, sizes, generator)
    assert torch.equal(taken.state.position, state.position)


def test_a_tuner_adapts_to_every_step():
    kernel, x = MALA(), torch.zeros(50, 2, dtype=torch.float64)
    tuner = Tuner(RobbinsMonro(0.574, decay=0.5), 0.1)
    state = kernel.init(x, normal)
    taken = take_steps(kernel, state, normal, num_steps=3, step_size=tuner, generator=seeded_generator(3))
    step_size, generator = 0.1, seeded_generator(3)
    for index in range(3):
        state, info = kernel.step(state, normal, step_size, generator)
        step_size *= math.exp((float(info.acceptance_probability.mean()) - 0.574) / (1 + 0.5 * index))
    assert tuner.current == step_size
    assert torch.equal(taken.state.position, state.position)


def test_no_step_leaves_the_state_and_has_no_rate():
    state = MALA().init(torch.ones(3, 2), normal)
    taken = take_steps(MALA(), state, normal, num_steps=0, step_size=0.5)
    assert taken.state is state
    assert bool(taken.acceptance_rate.isnan().all())
    assert not bool(taken.last_step.is_accepted.any())


def test_callbacks_see_warm_up_and_steps_in_order():
    seen = []
    result = run_chain(
        MALA(),
        normal,
        torch.zeros(4, 2, dtype=torch.float64),
        num_steps=3,
        num_warmup=2,
        step_size=0.5,
        recording=Recording(on_step=seen.append),
        generator=seeded_generator(4),
    )
    assert [(step.index, step.is_warmup) for step in seen] == [(0, True), (1, True), (2, False), (3, False), (4, False)]
    positions = torch.stack([step.state.position for step in seen])
    assert torch.equal(result.draws, positions[2:])
    assert result.mean_squared_jump == pytest.approx(float(positions[1:].diff(dim=0).square().mean()))
    assert torch.equal(result.final_state.position, positions[-1])


def test_statistics_alone_can_be_kept():
    recording = Recording(keep_draws=False)
    result = run_chain(MALA(), normal, torch.zeros(3, 2), num_steps=5, step_size=0.5, recording=recording)
    assert result.draws.shape == (0, 3, 2)
    assert result.stats["lp"].shape == (5, 3)


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"num_warmup": -1}], ids=str)
def test_counts_must_be_positive(wrong):
    with pytest.raises(ValueError, match="need num_steps >= 1"):
        run_chain(MALA(), normal, torch.zeros(2, 2), **{"num_steps": 1, "step_size": 0.5, **wrong})
