"""Recovery likelihood by the settings of the DRL paper (T6) on 28 x 28 digits, from weights of score matching.

    python -m tests.benchmarks.neighbours.paper_recovery FOLDER start
    python -m tests.benchmarks.neighbours.paper_recovery FOLDER train --seconds 400
    python -m tests.benchmarks.neighbours.paper_recovery FOLDER train --seconds 400 --resumed
    python -m tests.benchmarks.neighbours.paper_recovery FOLDER draw

FOLDER is that of conditional_chains.py, with the weights of larger_prior.py "digits of many levels" and the classifier. The
six levels, the unadjusted Langevin steps with b^2 = 2e-4, their number and the marginal top level are those of the paper,
and so are the weights of the levels in training. ``start`` judges draws of the weights before training: ancestral and DDIM
with 19 calls on the ten levels of larger_prior.py "digits", and the paper's sampler with 180 calls. ``train`` takes so many
seconds of the processor and saves the averaged weights every five minutes, ``--resumed`` begins at these, and ``draw``
judges the paper's sampler on them. Draws are judged as in few_steps.py. Lines go to ``FOLDER/cooperative.jsonl``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

import drl_density as drl
from drl_density.samplers import DDIMSettings, ShortRunSettings, sample_ddim, sample_short_run
from drl_density.training import LangevinChains, LangevinRecovery
from tests.benchmarks.neighbours.cooperative import Averaged, Sheet, save
from tests.benchmarks.neighbours.larger_prior import PROBLEMS
from tests.benchmarks.neighbours.prior import to_rows

CHAINS = LangevinChains(num_steps=30, factor=2e-4)
BATCH, CLIP, NUM_ALIKE = 16, 100.0, 50
SAVED = 300.0  # seconds between two savings


def with_schedule(model: drl.EnergySequence, schedule: drl.NoiseSchedule) -> drl.EnergySequence:
    """The same energies at other levels."""
    return drl.EnergySequence(schedule, model.network, tuple(model.event_shape), base=model.base)


def judge_short_run(sheet: Sheet, model: drl.EnergySequence, name: str, trained: float) -> None:
    """Draws of the paper's sampler."""
    began, generator = time.process_time(), torch.Generator().manual_seed(2)
    settings = ShortRunSettings(CHAINS, is_denoised=True, max_rows=NUM_ALIKE)
    rows = sample_short_run(model, sheet.count, settings=settings, generator=generator).draws
    calls = CHAINS.num_steps * model.num_levels + 1
    sheet.add(name, f"K = {CHAINS.num_steps}", calls, rows, time.process_time() - began, trained, 0)


def judge_start(sheet: Sheet, model: drl.EnergySequence) -> None:
    """Draws of the weights before training, by DDIM and by the paper's sampler."""
    problem = PROBLEMS["digits"]
    levels = drl.NoiseSchedule.log_spaced(problem.num_levels, sigma_min=problem.sigma_min, sigma_max=0.999)
    for eta in (1.0, 0.0):
        settings, generator = DDIMSettings(num_steps=18, eta=eta, is_denoised=True), torch.Generator().manual_seed(2)
        began = time.process_time()
        rows = sample_ddim(with_schedule(model, levels), sheet.count, settings=settings, generator=generator).draws
        name = "ancestral" if eta else "DDIM"
        sheet.add("many levels", name, 19, rows, time.process_time() - began, 0.0, 0)
    judge_short_run(sheet, model, "many levels", 0.0)


def train(data: drl.Dataset, model: drl.EnergySequence, path: Path, seconds: float, rate: float, seed: int) -> None:
    """Recovery likelihood for so many seconds of the processor, whose rate falls to 0 over the last third."""
    model.network.requires_grad_(True)
    weights = list(model.network.parameters())
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.99), weight_decay=1e-3)
    average, objective = Averaged(weights), LangevinRecovery(CHAINS)
    generator, began, steps, shown = torch.Generator().manual_seed(seed), time.process_time(), 0, []
    saved = 0.0
    while (gone := (time.process_time() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (steps + 1) / 20, 3 * (1 - gone))
        rows = to_rows(data.train[torch.randint(len(data.train), (BATCH,), generator=generator)], generator)
        optimizer.zero_grad()
        value = objective(model, rows, torch.ones(model.num_levels), generator=generator)
        value.loss.backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        average.update()
        steps += 1
        shown.append(value.statistics.energy_gap)
        if steps % 10 == 0:  # gaps that grow without end are the sign of divergence
            gaps = torch.stack(shown[-10:]).nanmean(0).tolist()
            spent = time.process_time() - began
            print(f"{spent:.0f} s, step {steps}: gaps of the levels {[round(gap, 1) for gap in gaps]}", flush=True)
            if spent > saved + SAVED:
                saved = spent
                average.swap()
                save(model, path)
                average.swap()
    average.swap()
    save(model, path)
    print(f"{steps} steps", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Judge the start, or train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of larger_prior.py and of the classifier")
    parser.add_argument("part", choices=["start", "train", "draw"])
    parser.add_argument("--seconds", type=float, default=400.0, help="of training, in all for draw")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resumed", action="store_true", help="begin at the weights of an earlier call")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = args.folder / "t6.safetensors"
    matched = PROBLEMS["digits of many levels"].load(args.folder / "prior.safetensors")
    model = with_schedule(matched, drl.NoiseSchedule.linear_beta()).requires_grad_(False)
    if args.resumed or args.part == "draw":
        model.load_state_dict(load_file(path))
    if args.part == "train":
        train(drl.load_dataset(str(args.folder / "data.npz"), seed=0), model, path, args.seconds, args.rate, args.seed)
    elif args.part == "draw":
        judge_short_run(Sheet(args.folder, args.count), model, "T6", args.seconds)
    else:
        judge_start(Sheet(args.folder, args.count), model)


if __name__ == "__main__":
    main()
