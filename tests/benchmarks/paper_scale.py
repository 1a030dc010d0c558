"""Time and memory of one training step at 32 x 32 x 3 with the papers' networks, and what their whole runs would take.

    python -m tests.benchmarks.paper_scale                       # cifar10, cifar10_t1k, cifar10_cdrl; batches of 1 and 2
    python -m tests.benchmarks.paper_scale --presets cifar10 --batches 32 256 --device cuda

Every line is one step of the preset itself in a process of its own, on random images, after a step of one image. Time is
processor time, or wall time on a GPU. Memory is the most that the process held, or that torch allocated on the GPU. "days"
are those of all steps of the preset at its own batch size, at the speed of this batch. `bash tests/benchmarks/paper_scale.sh
DATA.npz RUN --preset cifar10` starts a run of this size under torchrun.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import resource
import time

import torch

import drl_density as drl
from drl_density.density.fitting.plan import plan_fit
from drl_density.parallel import Workers
from drl_density.training.gradient_step import gradient_step, prepare_network

PRESETS = ("cifar10", "cifar10_t1k", "cifar10_cdrl")


def images(count: int, side: int) -> drl.Dataset:
    """Random grey levels ``(count, side, side, 3)`` as a data set of images."""
    pixels = torch.randint(256, (count, side, side, 3), generator=torch.Generator().manual_seed(0))
    return drl.load_dataset(pixels.to(torch.uint8).numpy(), seed=0)


def one_step(settings: drl.FitSettings, batch: int, *, side: int = 32, device: str = "cpu") -> dict[str, float]:
    """Time of a gradient step of a batch, the most memory so far, and the days that all steps of ``settings`` would take."""
    plan = plan_fit(images(40, side), settings, device=torch.device(device))
    state = plan.new_state(plan.members[0].base, seed=0)
    objective = plan.objective_of(state, seed=0)
    prepare_network(state.model.network, plan.training)
    rows = torch.rand(batch, *state.model.event_shape, device=device) * 2 - 1
    now = time.process_time if device == "cpu" else time.perf_counter
    elapsed, norm = 0.0, math.nan
    for size in (1, batch):
        training = dataclasses.replace(plan.training, batch_size=size)
        started = now()
        norm = gradient_step(state, objective, lambda count, generator: rows[:count], training, Workers()).norm
        if device != "cpu":
            torch.cuda.synchronize()
        elapsed = now() - started
    if not math.isfinite(norm):
        raise ArithmeticError(f"the gradient of the step is {norm}")
    held = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    most = held if device == "cpu" else torch.cuda.max_memory_allocated()
    days = elapsed / batch * plan.training.batch_size * plan.training.num_steps / 86_400
    return {"batch": batch, "seconds": elapsed, "memory_gib": most / 2**30, "days": days}


def measured(name: str, batch: int, device: str) -> dict[str, object]:
    """One line of a preset."""
    torch.set_num_threads(1)
    return {"preset": name, "device": device} | one_step(drl.FitSettings.preset(name), batch, device=device)


def main() -> None:
    """Print one JSON line for each preset and batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=PRESETS, choices=PRESETS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    for name in args.presets:
        for batch in args.batches:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(json.dumps(pool.apply(measured, (name, batch, args.device))), flush=True)


if __name__ == "__main__":
    main()
