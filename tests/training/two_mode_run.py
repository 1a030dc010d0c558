"""A small resumable training run for the tests of processes: started by them alone, in pairs, or under torchrun.

python -m tests.training.two_mode_run FOLDER ... [--copy FOLDER] [--kill RANK:STEP ...] [--then-lose] [--sharded]
"""

import argparse
import dataclasses
import os
import signal
from pathlib import Path

import torch

from drl_density import NoiseSchedule, RecoveryLikelihood, TrainingSettings
from drl_density.errors import WorkerLost
from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings
from drl_density.parallel import Workers, joined_workers, num_restarts
from drl_density.run_folder import RunFolder
from drl_density.training import Evaluation, TrainingHooks, new_state, train
from drl_density.training.gradient_step import gradient_step

SETTINGS = TrainingSettings(num_steps=20, batch_size=64, evaluate_every=5, learning_rate=3e-3, num_shards=4)
OBJECTIVE = RecoveryLikelihood(num_steps=2)
STATE = "training_state.safetensors"


def short(**changes):
    """Settings of ten steps."""
    return dataclasses.replace(SETTINGS, num_steps=10, **changes)


def draw(num_rows, generator):
    """0.3 N(-1, 0.25^2) + 0.7 N(0.6, 0.25^2)."""
    is_left = torch.rand(num_rows, generator=generator) < 0.3
    return (torch.where(is_left, -1.0, 0.6) + 0.25 * torch.randn(num_rows, generator=generator))[:, None]


def fresh(seed=0):
    """A state at step 0; dropout is on, so that its noise is part of what must come back."""
    generator = torch.Generator().manual_seed(seed)
    network = MLP(MLPSettings(1, width=32, num_blocks=1, num_fourier_features=8, dropout=0.1), generator=generator)
    model = EnergySequence(NoiseSchedule.log_spaced(5, sigma_min=0.05), network, (1,), generator=generator)
    return new_state(model, learning_rate=3e-3, weight_decay=0.0, average_decay=0.98, seed=seed)


def first_gradient(workers):
    """Gradients of the first step over the whole batch, not scaled."""
    state = fresh()
    settings = dataclasses.replace(SETTINGS, max_gradient_norm=float("inf"))
    gradient_step(state, OBJECTIVE, draw, settings, workers)
    return {name: p.grad for name, p in state.model.named_parameters() if p.grad is not None}


def run(folder, batches=draw, settings=SETTINGS):
    """Train from what the folder holds to the end, saving at every evaluation; returns the state."""
    workers, state = Workers.current(), fresh()
    store = None
    if workers.is_first:
        store = RunFolder.open(folder) if (folder / "settings.json").is_file() else RunFolder.create(folder)
        store.write_json("settings.json", {"stage": "training"})
        if store.state.is_file():
            state.load_tensors(*store.read_tensors(STATE))

    def save(tensors, scalars):
        for name in (STATE, f"step_{scalars['step']}.safetensors"):
            store.write_tensors(name, tensors, scalars)

    rows = draw(128, torch.Generator().manual_seed(1))
    return train(
        state, OBJECTIVE, batches, settings=settings, evaluation=Evaluation(rows), hooks=TrainingHooks(save=save)
    )


def parse(words=None):
    """The arguments of the command line, or of ``words``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="+", help="runs to begin or to go on with, one after another")
    parser.add_argument("--copy", type=Path, help="then a run that goes on from step 10 of the first")
    parser.add_argument("--kill", nargs="*", default=[], help="who dies after how many own steps, one per start")
    parser.add_argument("--then-lose", action="store_true")
    parser.add_argument("--sharded", action="store_true", help="shard the weights over the processes")
    return parser.parse_args(words)


def work(args, workers):
    """Train, and die when the arguments say so."""
    settings = dataclasses.replace(SETTINGS, has_sharded_weights=args.sharded)
    own_shards = len(workers.own_shards(SETTINGS.num_shards))
    kills = dict(enumerate(args.kill))
    doomed, last_step = map(int, kills.get(num_restarts(), "-1:0").split(":"))
    calls = []

    def batches(num_rows, generator):
        calls.append(1)
        if workers.rank == doomed and len(calls) > last_step * own_shards:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(num_rows, generator)

    first = args.folders[0]
    for folder in [*args.folders, *([args.copy] if args.copy else [])]:
        if folder == args.copy and workers.is_first:
            stand_at(10, first, folder)
        state = run(folder, batches, settings)
        saved, _ = RunFolder.open(folder).read_tensors(STATE)
        for name, tensor in state.to_tensors()[0].items():  # whole, in every process
            assert torch.equal(tensor, saved[name]), name
    if args.then_lose:
        gradients = first_gradient(workers)
        if workers.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        RunFolder.open(first).write_tensors("gradient.safetensors", gradients)
        try:
            workers.add_up(torch.zeros(3))
        except WorkerLost as error:
            (first / "lost.txt").write_text(str(error))
            os._exit(0)


def stand_at(step, source, folder):
    """A run in ``folder`` that stands where the one in ``source`` stood after ``step`` steps."""
    store = RunFolder.create(folder)
    store.write_json("settings.json", {"stage": "training"})
    store.write_tensors(STATE, *RunFolder.open(source).read_tensors(f"step_{step}.safetensors"))


def main():
    """Join and work."""
    args = parse()
    torch.set_num_threads(1)
    with joined_workers() as workers:
        work(args, workers)


if __name__ == "__main__":
    main()
