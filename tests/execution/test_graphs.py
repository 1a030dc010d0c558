"""Passes recorded as CUDA graphs give the same bits, and are recorded again when they must be."""

import copy
import pickle

import pytest
import torch
from torch import nn

from drl_density import HMC, MALA, RecoveryLikelihood, TrainingSettings
from drl_density.execution import PassGraphs, chain_passes
from drl_density.mcmc import value_and_gradient
from drl_density.testing import seeded_generator
from drl_density.training import Evaluation, LangevinChains, LangevinRecovery, train
from tests.training.image_runs import draw, fresh


def gradients_of_a_run(objective, *, is_graphed, device="cpu", num_steps=3):
    """Weights after a few steps."""
    state = fresh()
    state.model.to(device)
    state.step_sizes = state.step_sizes.to(device)
    settings = TrainingSettings(batch_size=8, is_graphed=is_graphed, num_steps=num_steps, evaluate_every=num_steps)
    train(state, objective, draw, settings=settings, evaluation=Evaluation(draw(8, seeded_generator(3))))
    assert state.model.execution.num_recordings == is_graphed  # one recording serves every step
    return torch.cat([p.detach().cpu().flatten() for p in state.model.parameters()])


OBJECTIVES = {
    "paper": LangevinRecovery(LangevinChains(num_steps=2)),
    "MALA": RecoveryLikelihood(num_steps=2, kernel=MALA(), noisier_share=0.5),
    "HMC": RecoveryLikelihood(num_steps=1, kernel=HMC(2)),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_replayed_passes_train_to_the_same_bits(name, recorded):
    """Weights move between the steps, by the optimiser and the power iterations; the recording must see them move."""
    plain = gradients_of_a_run(OBJECTIVES[name], is_graphed=False)
    assert recorded.count == 0
    assert torch.equal(gradients_of_a_run(OBJECTIVES[name], is_graphed=True), plain)
    assert recorded.count > 3


def test_a_recording_ends_with_its_weights_and_shape(recorded):
    """Other shapes, other modes and weights that stand elsewhere are recorded anew; copies begin without recordings."""
    model, chains = fresh().model, LangevinChains(num_steps=1)
    model.execution.is_graphed = True

    def run(num_rows):
        x = draw(num_rows, seeded_generator(5))
        chains.run(model, x, x, torch.zeros(num_rows, dtype=torch.long), generator=seeded_generator(6))
        return model.execution.num_recordings

    assert [run(4), run(4), run(6)] == [1, 1, 2]
    model.train()
    assert run(4) == 3
    model.network.enter.bias.data = model.network.enter.bias.data.clone()
    assert run(4) == 4
    copied = copy.deepcopy(model)
    assert copied.execution.is_graphed
    assert copied.execution.num_recordings == 0
    assert pickle.loads(pickle.dumps(model.execution)).num_recordings == 0


def test_what_was_replayed_stays(recorded):
    """A kernel that accepts or rejects holds a pass's value and gradient while it asks for the next."""
    model, first, second = fresh().model.eval(), draw(4, seeded_generator(5)), draw(4, seeded_generator(6))
    nn.init.normal_(model.network.readout.kernel.weight, generator=seeded_generator(7))
    expected = value_and_gradient(lambda x: model.log_density(x, 1), first)
    model.execution.is_graphed = True
    with chain_passes(model, is_adjusted=True):
        value = model.log_density(first.requires_grad_(True), 1)
        model.log_density(second.requires_grad_(True), 1)
        (gradient,) = torch.autograd.grad(value.sum(), first)
    assert model.execution.num_recordings == 1
    torch.testing.assert_close((value.detach(), gradient), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_graphs_train_as_plain_passes_do(name):
    """Atomic sums on a card take any order: three float32 steps at rate 2e-3 stay within 1e-4."""
    plain, replayed = (gradients_of_a_run(OBJECTIVES[name], is_graphed=flag, device="cuda") for flag in (False, True))
    assert float((plain - replayed).abs().max()) < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_density_that_asks_the_host_is_refused():
    x = torch.randn(4, 2, device="cuda")
    with pytest.raises(RuntimeError, match="cannot be recorded .*is_graphed=False"):
        PassGraphs()(lambda state: state.sum(1) * float(state.detach().sum()), "key", x.requires_grad_(True))
