"""Precision and passes of chains: what each changes and what it must not."""

import copy
import pickle

import pytest
import torch

from drl_density.execution import Execution, chain_passes, precision
from drl_density.networks import (
    SpectralWeight,
    frozen_power_iteration,
    held_weights,
)
from drl_density.testing import seeded_generator
from drl_density.training import LangevinChains
from tests.training.image_runs import draw, fresh


def test_lowered_density_is_near_and_full_precision_comes_back():
    """bfloat16 keeps 8 bits: through 9 layers the raw output stays within 9 x 2^-8 of its scale; outside not a bit moves."""
    model, x = fresh().model.eval(), draw(16, seeded_generator(4))
    with torch.no_grad():
        full = model.log_density(x, 2)
        with precision(model, torch.bfloat16):
            lowered = model.log_density(x, 2)
            with precision(model, None):
                inner = model.log_density(x, 2)
        again = model.log_density(x, 2)
        raw = model.network(x, model.schedule.log_snr_at(2).float())
    assert lowered.dtype == torch.float32
    assert not torch.equal(lowered, full)
    assert float((lowered - full).abs().max()) < 9 * 2**-8 * float(raw.abs().max())
    assert torch.equal(inner, full)
    assert torch.equal(again, full)


def test_passes_outside_chains_are_not_replayed(recorded):
    """Learning needs gradients of the weights, which a recording does not have."""
    model, x = fresh().model, draw(4, seeded_generator(5)).requires_grad_(True)
    model.execution.is_graphed = True
    model.log_density(x, 1).sum().backward()
    assert model.network.enter.kernel.weight.grad.abs().sum() > 0
    with chain_passes(model, is_adjusted=True):
        value = model.log_density(x, 1)
        with pytest.raises(RuntimeError, match="does not require grad"):
            torch.autograd.grad(torch.autograd.grad(value.sum(), x, create_graph=True)[0].sum(), x)
    assert recorded.count == 1


def test_held_weights_move_chains_by_the_same_bits(monkeypatch):
    """Chains with weights normalised once end where chains end that normalise them in every pass; learning goes on."""
    ends, counts = [], []
    for context in (held_weights, frozen_power_iteration):
        monkeypatch.setattr("drl_density.execution.passes.held_weights", context)
        model, iterations = fresh().model, []
        iterate = SpectralWeight.iterate
        monkeypatch.setattr(SpectralWeight, "iterate", lambda self: iterations.append(1) or iterate(self))  # noqa: B023
        x, levels = draw(6, seeded_generator(5)), torch.arange(6)
        chains = LangevinChains(num_steps=3)
        ends.append(chains.run(model, x, x, levels, generator=seeded_generator(6))[0])
        counts.append(len(iterations))
        monkeypatch.setattr(SpectralWeight, "iterate", iterate)
        model.log_density(x, 1).sum().backward()
        assert model.network.enter.kernel.weight.grad.abs().sum() > 0
    assert torch.equal(*ends)
    assert counts[1] == 4 * counts[0]


def test_contexts_nest_and_come_back_after_an_error():
    execution = Execution()

    def dtype_inside():
        with execution.network_precision(torch.device("cpu")):
            return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

    assert dtype_inside() is None
    with execution.lowered(torch.bfloat16):
        assert dtype_inside() == torch.bfloat16
        with execution.lowered(torch.float32):
            assert dtype_inside() is None
        assert dtype_inside() == torch.bfloat16

    def failing():
        with execution.lowered(torch.bfloat16):
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert dtype_inside() is None


@pytest.mark.parametrize(("is_adjusted", "is_lowered"), [(True, False), (False, True)])
def test_adjusted_chains_run_in_full_precision(is_adjusted, is_lowered):
    model, x = fresh().model.eval(), draw(4, seeded_generator(4))
    with torch.no_grad():
        full = model.log_density(x, 2)
        with precision(model, torch.bfloat16), chain_passes(model, is_adjusted=is_adjusted):
            inside = model.log_density(x, 2)
    assert torch.equal(inside, full) != is_lowered


def test_a_copy_starts_afresh():
    """A copy made inside a context keeps the setting alone: neither the precision nor the recordings."""
    execution = Execution(is_graphed=True)
    with execution.lowered(torch.bfloat16):
        copies = [copy.deepcopy(execution), pickle.loads(pickle.dumps(execution))]
    for one in copies:
        assert one.is_graphed
        assert one.num_recordings == 0
        with one.network_precision(torch.device("cpu")):
            assert not torch.is_autocast_enabled("cpu")


def test_sequences_with_shared_parts_have_an_execution_each():
    model = fresh().model
    model.execution.is_graphed = True
    other = model.truncate(1)
    assert other.execution is not model.execution
    assert other.execution.is_graphed


def test_a_function_without_a_gradient_in_x_is_called_as_it_is(recorded):
    execution, model = Execution(is_graphed=True), fresh().model
    model.execution = execution
    with chain_passes(model, is_adjusted=True):
        assert torch.equal(execution.run(lambda x: x.sum(1), torch.ones(2, 3)), torch.full((2,), 3.0))
    assert execution.num_recordings == 0
    assert recorded.count == 0
