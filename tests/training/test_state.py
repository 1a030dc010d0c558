"""The state of training: averages with their own norms, and saved states."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.errors import RunFolderError
from drl_density.model import EnergySequence
from drl_density.networks import ResidualEnergy, ResidualSettings, SpectralWeight
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
