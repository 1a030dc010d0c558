"""A network whose layers are silent is noticed, and training goes back to where it was alive."""

import math

import pytest
import torch
from torch import nn

from drl_density.errors import DivergenceWarning, TrainingFailed
from drl_density.model import EnergySequence
from drl_density.schedule import NoiseSchedule
from drl_density.testing import seeded_generator
from drl_density.training import DenoisingScoreMatching, Doctor, Evaluation, TrainingSettings, new_state, train
from drl_density.training.silence import layer_inputs, silence_record

OBJECTIVE = DenoisingScoreMatching(classification_weight=0.0)


class Small(nn.Module):
    """Two layers with a SiLU between them, which a bias of -100 silences."""

    has_bounded_growth = True

    def __init__(self, bias):
        super().__init__()
        self.first, self.second = nn.Linear(2, 8), nn.Linear(8, 1)
        nn.init.constant_(self.first.bias, bias)

    def forward(self, x, log_snr, label=None):
        return self.second(nn.functional.silu(self.first(x)))[:, 0]


def state_of(bias):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EnergySequence(NoiseSchedule.log_spaced(2), Small(bias), (2,))
    return new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=0)


def rows():
    return torch.randn(32, 2, generator=seeded_generator(0))


def after_a_gradient(bias):
    state = state_of(bias)
    OBJECTIVE(state.model, rows(), state.step_sizes, generator=seeded_generator(1)).loss.backward()
    return silence_record(state, rows())


def test_the_layers_of_a_dead_network_are_named():
    found = layer_inputs(state_of(0.0).model, rows())
    assert found["first"] == pytest.approx(float(rows().square().mean().sqrt()))
    assert after_a_gradient(-100.0)["dead_layers"] == "second"
    alive = after_a_gradient(0.0)
    assert set(alive) == {"network_gradient", "least_input"}
    assert alive["network_gradient"] > 1e-4
    assert alive["least_input"] == pytest.approx(min(found.values()))
    assert math.isnan(silence_record(state_of(0.0), rows())["network_gradient"])


def test_the_doctor_says_what_happened_and_what_to_do():
    record = {"loss": 1.0, "validation_loss": 1.0, "energy_gap": [], "acceptance_rate": [], "relative_jump": []}
    reason = Doctor().divergence(record | after_a_gradient(-100.0), [], num_features=2)
    assert "network is dead: every input of second is zero" in reason
    assert "the learning rate is too high" in reason
    assert Doctor().divergence(record | after_a_gradient(0.0), [], num_features=2) is None
    nearly = record | after_a_gradient(-8.0)  # silent, but not yet dead
    assert Doctor().divergence(nearly, [], num_features=2) is None
    (complaint,) = Doctor().complaints(nearly, num_features=2)
    assert "nearly silent" in complaint
    assert "lower learning rate" in complaint
    assert Doctor().complaints(record | after_a_gradient(0.0), num_features=2) == []


@pytest.mark.parametrize("bias", [0.0, -100.0])
def test_training_goes_back_at_a_lower_rate_and_ends_with_advice(bias):
    state, settings = state_of(bias), TrainingSettings(num_steps=4, batch_size=8, evaluate_every=2)
    source, evaluation = (lambda count, generator: rows()[:count]), Evaluation(rows())
    if not bias:
        train(state, OBJECTIVE, source, settings=settings, evaluation=evaluation)
        assert (state.step, state.num_rollbacks) == (4, 0)
        assert state.history[-1]["network_gradient"] > 0
        return
    with (
        pytest.warns(DivergenceWarning, match="dead: every input of second .* rolled back to step 0 and lowered"),
        pytest.raises(TrainingFailed, match="diverged 4 times .* Try a lower learning rate"),
    ):
        train(state, OBJECTIVE, source, settings=settings, evaluation=evaluation)
