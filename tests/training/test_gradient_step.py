"""One gradient step: precision, memory format, compilation, checkpoints and shards."""

import pytest
import torch
from torch import nn

from drl_density import HMC, MALA, ULA, RecoveryLikelihood, TrainingSettings
from drl_density.networks import (
    MLP,
    MLPSettings,
)
from drl_density.parallel import Workers
from drl_density.testing import seeded_generator
from drl_density.training import Evaluation, LangevinChains, LangevinRecovery, train
from drl_density.training.gradient_step import gradient_step, prepare_network
from drl_density.training.objectives.objective import LevelStatistics, ObjectiveValue
from tests.training import two_mode_run
from tests.training.image_runs import draw, fresh


class Spy(nn.Module):
    """A network that records what each pass was for, and whether it ran under autocast."""

    has_bounded_growth = True

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))
        self.passes = set()

    def forward(self, x, log_snr):
        purpose = "chain" if x.requires_grad else "learning" if self.training else "evaluation"
        self.passes.add((purpose, torch.is_autocast_enabled("cpu")))
        return self.scale * x.flatten(1).mean(1)


@pytest.mark.parametrize(
    ("objective", "chain_is_lowered"),
    [
        (RecoveryLikelihood(num_steps=1, kernel=MALA()), False),
        (RecoveryLikelihood(num_steps=1, kernel=HMC(2)), False),
        (RecoveryLikelihood(num_steps=1, kernel=ULA()), True),
        (LangevinRecovery(LangevinChains(num_steps=2)), True),
    ],
    ids=["MALA", "HMC", "ULA", "paper"],
)
def test_only_learning_and_unadjusted_chains_are_lowered(objective, chain_is_lowered):
    """Chains that accept or reject, validation and the averaged model's score run in full precision."""
    state = fresh(Spy())
    settings = TrainingSettings(num_steps=2, batch_size=8, evaluate_every=2, precision="bfloat16")
    evaluated = Spy()
    state.average.module.network = evaluated
    gradient_step(state, objective, draw, settings, Workers())
    assert state.model.network.passes == {("learning", True), ("chain", chain_is_lowered)}
    state.model.network.passes.clear()
    rows = draw(8, seeded_generator(3))
    state.model.network = evaluated
    train(state, objective, draw, settings=settings, evaluation=Evaluation(rows))
    assert ("evaluation", True) not in evaluated.passes
    assert ("evaluation", False) in evaluated.passes


def one_step(**changes):
    """(gradients, u of every spectral norm after the step)."""
    state = fresh()
    settings = TrainingSettings(batch_size=8, max_gradient_norm=float("inf"), **changes)
    prepare_network(state.model.network, settings)
    gradient_step(state, LangevinRecovery(LangevinChains(num_steps=4)), draw, settings, Workers())
    gradients = {n: p.grad.clone() for n, p in state.model.named_parameters() if p.grad is not None}
    return gradients, {n: b.clone() for n, b in state.model.named_buffers() if n.endswith(".u")}


@pytest.mark.parametrize("changes", [{"is_checkpointed": True}, {"is_channels_last": True}], ids=str)
def test_the_step_stays_the_same(changes):
    """Another order of float32 sums, through 4 Langevin steps: 1e-4 of the largest gradient; and each u iterates once."""
    gradients, u = one_step()
    others, other_u = one_step(**changes)
    largest = max(float(value.abs().max()) for value in gradients.values())
    assert gradients.keys() == others.keys()
    for name, value in gradients.items():
        assert float((value - others[name]).abs().max()) < 1e-4 * largest, name
    assert u.keys() == other_u.keys()
    assert len(u) > 5
    for name, value in u.items():
        # A stored u is a unit vector of at most 16 numbers: rounding of one product.
        assert float((value - other_u[name]).abs().max()) < 1e-5, name


def test_compilation_keeps_names_and_values():
    network = MLP(MLPSettings(2, width=8, num_blocks=1), generator=seeded_generator(0))
    nn.init.normal_(network.readout.weight, generator=seeded_generator(1))
    x, log_snr, names = torch.randn(4, 2, generator=seeded_generator(2)), torch.zeros(()), list(network.state_dict())
    with torch.no_grad():
        before = network(x, log_snr)
        prepare_network(network, TrainingSettings(is_compiled=True), backend="eager")
        assert torch.equal(network(x, log_snr), before)
    assert network._compiled_call_impl is not None
    assert list(network.state_dict()) == names


def test_shards_iterate_spectral_norms_once():
    u, other_u = one_step()[1], one_step(num_shards=4)[1]
    assert all(float((value - other_u[name]).abs().max()) < 1e-5 for name, value in u.items())


def test_networks_without_checkpoints_are_refused():
    with pytest.raises(ValueError, match="MLP cannot checkpoint"):
        prepare_network(MLP(MLPSettings(2)), TrainingSettings(is_checkpointed=True))


class RowMeans:
    """A loss without noise of its own: the mean of F at level 1 over the rows."""

    kernel = two_mode_run.OBJECTIVE.kernel

    def __call__(self, model, x, step_sizes, *, generator):
        loss = model.eval().log_density(x, 1).mean()
        levels = torch.full((model.num_levels,), float(x.mean()))
        levels[0] = torch.nan if float(x[0, 0]) > 10 else 0.5
        return ObjectiveValue(loss, {"mean": loss.detach()}, LevelStatistics(levels, levels, levels))


def test_shards_add_up_to_the_joint_batch():
    """with the rows in four shards and no other noise, gradients and means are those of one pass over the joint batch."""
    rows = two_mode_run.draw(64, torch.Generator().manual_seed(3)).double()
    rows[16] = 11.0
    results = []
    for num_shards in (1, 4):
        state, parts = two_mode_run.fresh(), iter(rows.split(64 // num_shards))
        state.model.double()
        torch.nn.init.normal_(state.model.network.readout.weight, generator=torch.Generator().manual_seed(0))
        settings = TrainingSettings(batch_size=64, num_shards=num_shards, max_gradient_norm=float("inf"))
        value, norm = gradient_step(state, RowMeans(), lambda n, g, parts=parts: next(parts), settings, Workers())
        results.append((value, norm, [p.grad for p in state.model.parameters() if p.grad is not None]))
    (whole, norm, gradients), (sharded, sharded_norm, added) = results
    # float64 sums of 64 rows in another order: at most 64 rounding errors.
    bound = {"rtol": 64 * 2.3e-16, "atol": 64 * 2.3e-16}
    assert torch.allclose(whole.loss, sharded.loss, **bound)
    assert norm == pytest.approx(sharded_norm, rel=1e-12)
    for one, other in zip(gradients, added, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=float(one.abs().max()) * 1e-13)
    assert sharded.statistics.energy_gap[1] == pytest.approx(float(rows.mean()), rel=1e-6)
    assert sharded.statistics.energy_gap[0] == 0.5
