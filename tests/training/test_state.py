"""The state of training: averages with their own norms, and saved states."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.errors import RunFolderError
from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings, ResidualEnergy, ResidualSettings, SpectralWeight
from drl_density.testing import seeded_generator
from drl_density.training import new_state
from tests.training.small_runs import fresh


def test_averaged_weights_are_divided_by_their_own_norms():
    """Operator norms are at most 1 + 1e-3 even if power iterations stood at random vectors."""
    sizes = ResidualSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1)
    network = ResidualEnergy(sizes, generator=seeded_generator())
    model = EnergySequence(NoiseSchedule.log_spaced(3), network, (64,))
    state = new_state(model, learning_rate=1e-2, weight_decay=0.0, average_decay=0.7, seed=0)
    x = torch.randn(16, 64, generator=seeded_generator(1))
    for _ in range(4):
        state.optimizer.zero_grad()
        model.log_density(x, 0).mean().backward()
        state.optimizer.step()
        state.average.update_parameters(model)
    generator = seeded_generator(2)
    for weight in normalized(state.average.module):
        weight.u.copy_(torch.nn.functional.normalize(torch.randn(weight.u.shape, generator=generator), dim=0))
    found = [weight().detach().flatten(1) for weight in normalized(state.averaged_model.eval())]
    assert len(found) == 10
    assert max(float(torch.linalg.matrix_norm(matrix, 2)) for matrix in found) <= 1 + 1e-3


def normalized(model):
    return [part for part in model.modules() if isinstance(part, SpectralWeight) and part.is_normalized]


def test_foreign_state_is_refused():
    with pytest.raises(RunFolderError, match="does not fit this model"):
        fresh().load_tensors(*fresh(width=16).to_tensors())


def test_a_saved_state_stays_as_it_was():
    """The doctor may roll back to it twice, and sources of batches write into what they drew in place."""
    state = fresh()
    state.drawn = {"cells": torch.zeros(3)}
    saved = state.to_tensors()
    for _ in range(2):
        state.load_tensors(*saved)
        assert state.drawn["cells"].tolist() == [0.0, 0.0, 0.0]
        state.drawn["cells"] += 1
        state.history.append({"step": 1})
        with torch.no_grad():
            next(state.model.parameters()).add_(1.0)
    state.load_tensors(*saved)
    again = state.to_tensors()
    assert again.scalars == saved.scalars
    assert again.tensors.keys() == saved.tensors.keys()
    assert all(torch.equal(tensor, saved.tensors[name]) for name, tensor in again.tensors.items())


def test_the_best_averaged_weights_are_kept():
    state = fresh()
    state.step = 10
    state.keep_best(1.0, 0.5)
    kept = {name: tensor.clone() for name, tensor in state.best.items()}
    with torch.no_grad():
        for parameter in state.average.module.parameters():
            parameter.add_(1.0)
    state.step = 20
    state.keep_best(1.0, 0.0)
    assert (state.best_score, state.best_step, state.best_level) == (1.0, 10, 0.5)
    assert all(torch.equal(state.best[name], tensor) for name, tensor in kept.items())
    state.keep_best(1.5, 0.0)
    assert (state.best_score, state.best_step, state.best_level) == (1.5, 20, 0.0)
    assert not all(torch.equal(state.best[name], tensor) for name, tensor in kept.items())


def test_an_initialiser_has_a_learning_rate_of_its_own():
    model = EnergySequence(
        NoiseSchedule.log_spaced(3), MLP(MLPSettings(2, width=8)), (2,), initializer=torch.nn.Linear(2, 2)
    )
    state = new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=0, initializer_rate=0.1)
    state.rate_factor = 0.5
    state.set_rates(0.2)
    assert [group["lr"] for group in state.optimizer.param_groups] == pytest.approx([0.1, 0.01])
    assert len(state.optimizer.param_groups[1]["params"]) == 2


def test_gradients_are_clipped_by_group_and_the_joint_norm_is_returned():
    model = EnergySequence(
        NoiseSchedule.log_spaced(3), MLP(MLPSettings(2, width=8)), (2,), initializer=torch.nn.Linear(2, 2)
    )
    state = new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=0)
    for group, size in zip(state.optimizer.param_groups, (3.0, 4.0), strict=True):
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
        group["params"][0].grad.view(-1)[0] = size
    assert float(state.clip_gradients(1.0)) == pytest.approx(5.0)
    for group in state.optimizer.param_groups:
        norm = torch.stack([parameter.grad.norm() for parameter in group["params"]]).norm()
        assert float(norm) == pytest.approx(1.0, rel=1e-4)  # torch adds 1e-6 to the norm it divides by
