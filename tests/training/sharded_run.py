"""Gradient steps on weights that are sharded over two processes, for the tests: every kind of network and objective.

The same two processes then train a run to its end, and another from its step 10.

python -m tests.training.sharded_run FOLDER RUN RUN_FROM_STEP_10
"""

import argparse
from pathlib import Path

import torch

from drl_density import EnergySequence, NoiseSchedule, TrainingSettings
from drl_density.networks import (
    ResidualEnergy,
    ResidualSettings,
    StepCalibrated,
    UNet,
    UNetEnergy,
    UNetEnergySettings,
    UNetSettings,
)
from drl_density.parallel import joined_workers
from drl_density.parallel.whole_tensors import local_part, whole_tensors
from drl_density.run_folder import RunFolder
from drl_density.training import (
    CooperativeRecovery,
    DenoisingScoreMatching,
    LangevinChains,
    LangevinRecovery,
    RecoveryLikelihood,
    new_state,
)
from drl_density.training.gradient_step import gradient_step, prepare_network
from drl_density.training.sharded_weights import shard_weights
from tests.training import two_mode_run

SHAPE = (1, 8, 8)
CASES = ("adjusted", "checkpointed", "langevin", "normal", "cooperative", "denoising", "unet")


def case(name):
    """(state, objective, settings) of a case."""
    generator = torch.Generator().manual_seed(0)
    schedule = NoiseSchedule.log_spaced(3, sigma_min=0.1)
    if name == "unet":
        network = UNetEnergy(UNetEnergySettings(SHAPE, num_channels=8), generator=generator)
        torch.nn.init.normal_(network.leave.weight, std=0.1, generator=generator)
    else:
        sizes = ResidualSettings(SHAPE, num_channels=8, multipliers=(1, 2), num_blocks=1, attention_sizes=(4,))
        network = ResidualEnergy(sizes, generator=generator)
    initializer = None
    if name == "cooperative":
        initializer = UNet(UNetSettings(SHAPE, num_channels=8, multipliers=(1,), num_blocks=1), generator=generator)
    if name in ("langevin", "normal"):
        tables = [table.float() for table in schedule.langevin_steps(2e-4)]
        network = StepCalibrated(network, schedule.log_snr[:-1].float(), *tables)
    model = EnergySequence(schedule, network, (64,), initializer=initializer, generator=generator)
    objective = {
        "langevin": LangevinRecovery(chains=LangevinChains(num_steps=2)),
        "normal": LangevinRecovery(chains=LangevinChains(is_top_marginal=False, num_steps=2), negatives="normal"),
        "cooperative": CooperativeRecovery(chains=LangevinChains(num_steps=2)),
        "denoising": DenoisingScoreMatching(),
        "unet": DenoisingScoreMatching(),
    }.get(name, RecoveryLikelihood(num_steps=2))
    settings = TrainingSettings(
        batch_size=12,
        num_shards=4,
        is_checkpointed=name == "checkpointed",
        has_sharded_weights=True,
        max_gradient_norm=float("inf"),
    )
    state = new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=0, initializer_rate=0.5)
    prepare_network(network, settings)
    return state, objective, settings


def draw(num_rows, generator):
    """Points of a Gaussian."""
    return 0.5 * torch.randn(num_rows, 64, generator=generator)


def steps(name, workers):
    """Gradients of the first step, its norm, the state after two steps, all whole, and the bytes that are kept here.

    In two cases, one of them with an initializer, a step is taken back once, as the doctor does.
    """
    state, objective, settings = case(name)
    if workers.count > 1:
        shard_weights(state)
    _, norm = gradient_step(state, objective, draw, settings, workers)
    gradients = {f"gradient.{key}": p.grad for key, p in state.model.named_parameters() if p.grad is not None}
    found = whole_tensors(gradients)
    if name in ("adjusted", "cooperative"):
        good = state.to_tensors()
        gradient_step(state, objective, draw, settings, workers)
        state.load_tensors(*good)
    gradient_step(state, objective, draw, settings, workers)
    evaluated = {f"evaluated.{key}": value for key, value in state.averaged_model.state_dict().items()}
    tensors, _ = state.to_tensors()
    kept = sum(local_part(tensor).nbytes for tensor in tensors.values())
    return found | evaluated | whole_tensors(tensors) | {"norm": torch.tensor(norm)}, kept


def main():
    """Join, step, let the first process write what it has of each case, and train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", nargs=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with joined_workers() as workers:
        store = RunFolder.create(args.folder) if workers.is_first else None
        if store is not None:
            store.write_json("settings.json", {})
        for name in CASES:
            found, kept = steps(name, workers)
            if store is not None:
                store.write_tensors(f"{name}.safetensors", found, {"kept": kept})
        two_mode_run.work(two_mode_run.parse([args.runs[0], "--copy", args.runs[1], "--sharded"]), workers)


if __name__ == "__main__":
    main()
