"""Recovery likelihood by the settings of the DRL paper (T6) on 28 x 28 digits: a small network, from random weights.

    python -m tests.benchmarks.neighbours.small_recovery FOLDER train --seconds 2700
    python -m tests.benchmarks.neighbours.small_recovery FOLDER draw --seconds 2700 --noise 1
    python -m tests.benchmarks.neighbours.small_recovery FOLDER levels

FOLDER holds the digits and their classifier, as ``cooperative FOLDER classifier`` makes them. The six levels, the 30
unadjusted Langevin steps with b^2 = 2e-4, the marginal top level, the weights of a row's loss, and the division of the
output by the squared step are those of the paper. The network has five convolutions and reads its features place by place,
where the paper sums them over the places. Levels are drawn with :data:`SHARES`, and not evenly: chains that begin below
level 3 drew digits first. So levels count 0.4 to 1.5 times as much as in the paper's loss. Both states of a pair come from
one noise as in CDRL, and gradients of more than twice the median norm of the last 100 are shortened to that.

``train`` takes so many seconds of the processor. Every ten minutes, and at the end, it saves the averaged weights and judges
draws of them. ``draw`` judges draws by other noise. ``levels`` judges chains that begin at digits under the noise of a
level, other ones than those that they are judged by; it shows the levels that fail. Draws are judged as in few_steps.py, and
are not denoised. Lines go to ``FOLDER/cooperative.jsonl``.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

import drl_density as drl
from drl_density.networks import StepCalibrated
from drl_density.samplers import ShortRunSettings, sample_short_run
from drl_density.shapes import per_row
from drl_density.training import LangevinChains, LangevinRecovery, draw_pairs
from drl_density.training.objectives.langevin_recovery import weighted_contrast
from tests.benchmarks.neighbours.cooperative import Averaged, Sheet, save, shorten
from tests.benchmarks.neighbours.prior import to_rows

CHAINS = LangevinChains(num_steps=30, factor=2e-4)
SCHEDULE = drl.NoiseSchedule.linear_beta()
SHARES = torch.tensor([1.0, 1.0, 2.0, 4.0, 4.0, 4.0]) / 16
BATCH, RATE, NUM_ALIKE = 32, 3e-3, 100
JUDGED = 600.0  # seconds between two judgements
SIDE, CHANNELS = 28, 16  # of the first convolution where nothing else is asked


class PlaceEnergy(nn.Module):
    """Five convolutions with a gain and a bias of each level, read by a weight for each place and level."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        widths = [1, channels, channels, 2 * channels, 2 * channels, 4 * channels]
        kernels = [(4, 2), (3, 1), (4, 2), (3, 1), (4, 2)]  # sizes and strides
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*pair, *kernel, 1) for pair, kernel in zip(zip(widths, widths[1:], strict=False), kernels, strict=True)
        )
        levels, places = len(SCHEDULE.log_snr) - 1, widths[-1] * 9
        self.gains = nn.ParameterList(nn.Parameter(torch.ones(levels, width)) for width in widths[1:])
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(levels, width)) for width in widths[1:])
        self.read = nn.Linear(places, 1)
        self.read_level = nn.Parameter(torch.zeros(levels, places))
        self.register_buffer("log_snr", SCHEDULE.log_snr[:-1].float())

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Raw outputs of rows ``(n, 784)`` at log-SNRs of the levels, ``(n,)``."""
        level = (log_snr.expand(len(x))[:, None] - self.log_snr).abs().argmin(1)
        hidden = x.reshape(-1, 1, SIDE, SIDE)
        for convolution, gain, bias in zip(self.convolutions, self.gains, self.biases, strict=True):
            made = functional.silu(convolution(hidden) * gain[level][:, :, None, None] + bias[level][:, :, None, None])
            hidden = made + hidden if convolution.in_channels == convolution.out_channels else made
        features = hidden.flatten(1)
        return self.read(features)[:, 0] + (features * self.read_level[level]).sum(1)


def new_model(seed: int, channels: int = CHANNELS) -> drl.EnergySequence:
    """The paper's sequence with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PlaceEnergy(channels).to(memory_format=torch.channels_last)
    tables = [table.float() for table in SCHEDULE.langevin_steps(CHAINS.factor)]
    energy = StepCalibrated(network, SCHEDULE.log_snr[:-1].float(), *tables)
    return drl.EnergySequence(SCHEDULE, energy, (SIDE**2,), has_base=False)


def name_of(channels: int, seed: int, noise: int = 0) -> str:
    """Name of the draws of a training, by the first noise or another one."""
    said = {"channels": 0 if channels == CHANNELS else channels, "seed": seed, "noise": noise}
    return ", ".join(["T6, small network", *(f"{key} {value}" for key, value in said.items() if value)])


def judge(sheet: Sheet, model: drl.EnergySequence, name: str, noise: int, trained: float, steps: int) -> None:
    """Draws of the paper's sampler."""
    began, generator = time.process_time(), torch.Generator().manual_seed(2 + noise)
    settings = ShortRunSettings(CHAINS, max_rows=NUM_ALIKE)
    rows = sample_short_run(model, sheet.count, settings=settings, generator=generator).draws
    calls, spent = CHAINS.num_steps * model.num_levels, time.process_time() - began
    sheet.add(name, f"K = {CHAINS.num_steps}", calls, rows, spent, trained, steps)


def judge_levels(sheet: Sheet, model: drl.EnergySequence, name: str, trained: float) -> None:
    """Draws of the levels below each one, from other test digits under its noise."""
    order = torch.randperm(len(sheet.data.test), generator=torch.Generator().manual_seed(0))  # as the judge's
    others = sheet.data.test[order[sheet.count : 2 * sheet.count]]
    for top in range(1, model.num_levels):
        began, generator = time.process_time(), torch.Generator().manual_seed(2)
        x = SCHEDULE.diffuse(to_rows(others, generator), torch.full((sheet.count,), float(top)), generator=generator)
        for level in reversed(range(top)):
            levels = torch.full((sheet.count,), level)
            start = x / per_row(CHAINS.step_alpha(model, levels).to(x), x)
            x = CHAINS.run(model, start, x, levels, generator=generator).position
        calls, spent = CHAINS.num_steps * top, time.process_time() - began
        sheet.add(f"{name}, from level {top}", f"K = {CHAINS.num_steps}", calls, x, spent, trained, 0)


def train(
    sheet: Sheet, model: drl.EnergySequence, name: str, path: Path, seconds: float, *, seed: int, rate: float = RATE
) -> None:
    """Recovery likelihood for so many seconds of the processor, whose rate falls to 0 over the last third."""
    weights, objective = list(model.network.parameters()), LangevinRecovery(CHAINS, shares_noise=True)
    optimizer, average = torch.optim.Adam(weights, betas=(0.9, 0.99)), Averaged(weights)
    generator, steps, shown = torch.Generator().manual_seed(1 + seed), 0, []
    spent, judged, norms, data = 0.0, 0.0, deque[float](maxlen=100), sheet.data

    def look() -> None:
        average.swap()
        save(model, path)
        judge(sheet, model, name, seed, round(spent), steps)
        average.swap()

    while spent < seconds:
        began = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (steps + 1) / 100, 3 * (1 - spent / seconds))
        rows = to_rows(data.train[torch.randint(len(data.train), (BATCH,), generator=generator)], generator)
        levels = torch.multinomial(SHARES, BATCH, replacement=True, generator=generator)
        clean, noisier = draw_pairs(model, rows, levels, levels + 1, shares_noise=True, generator=generator)
        optimizer.zero_grad()
        ends = objective.draw(model, clean, noisier, levels, generator=generator)
        value = weighted_contrast(model, clean, ends, levels, CHAINS)
        value.loss.backward()
        shorten(weights, norms)
        optimizer.step()
        average.update()
        steps += 1
        spent += time.process_time() - began
        shown.append(value.statistics.energy_gap)
        if steps % 200 == 0:  # gaps that grow without end are the sign of divergence
            gaps = [round(gap, 1) for gap in torch.stack(shown[-200:]).nanmean(0).tolist()]
            print(f"{spent:.0f} s, step {steps}: gaps of the levels {gaps}, norm {median(norms):.3g}", flush=True)
        if spent > judged + JUDGED and spent < seconds - 0.5 * JUDGED:
            judged = spent
            look()
    look()


def main(arguments: list[str] | None = None) -> None:
    """Train, or judge what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the digits and their classifier")
    parser.add_argument("part", choices=["train", "draw", "levels"])
    parser.add_argument("--seconds", type=float, default=2700.0, help="of training, in all for the other parts")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rate", type=float, default=RATE, help="of training")
    parser.add_argument("--channels", type=int, default=CHANNELS, help="of the first convolution")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument("--noise", type=int, default=0, help="seed of the noise of draws")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    name, path = name_of(args.channels, args.seed), args.folder / f"small_t6_{args.channels}_{args.seed}.safetensors"
    sheet, model = Sheet(args.folder, args.count), new_model(args.seed, args.channels)
    if args.part == "train":
        train(sheet, model, name, path, args.seconds, seed=args.seed, rate=args.rate)
        return
    model.load_state_dict(load_file(path))
    if args.part == "draw":
        judge(sheet, model, name_of(args.channels, args.seed, args.noise), args.noise, args.seconds, 0)
    else:
        judge_levels(sheet, model, name, args.seconds)


if __name__ == "__main__":
    main()
