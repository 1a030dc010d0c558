"""Recovery likelihood by the settings of the DRL paper (T6) on 28 x 28 digits, from weights of score matching.

    python -m tests.benchmarks.neighbours.paper_recovery FOLDER start
    python -m tests.benchmarks.neighbours.paper_recovery FOLDER train --seconds 3000
    python -m tests.benchmarks.neighbours.paper_recovery FOLDER train --seconds 3000 --resumed
    python -m tests.benchmarks.neighbours.paper_recovery FOLDER draw --seconds 3000

FOLDER is that of conditional_chains.py, with the weights of larger_prior.py "digits of many levels" and the classifier. The
six levels, the unadjusted Langevin steps with b^2 = 2e-4, their number and the marginal top level are those of the paper.

Training starts at the log density of one noise between those where a chain begins and ends, :data:`MIXED`, times
``LangevinChains.energy_scale``: 168 at level 0, 6.1 at level 1 and 2.7 at the top. At the top, where no noise but the whole
of a faint signal has to change, and at the two levels below, :data:`STEEPER` factors draw better. They were chosen by 100
draws. In training, both states of a pair come from one noise as in CDRL, and gradients of more than twice the median norm
of the last 50 are shortened to that: a chain that runs away has a norm many times as large.

``start`` judges draws of the weights before training, as they are and with these scales. ``train`` takes so many seconds of
the processor and saves the averaged weights every five minutes, ``--resumed`` begins at these, and ``draw`` judges the
paper's sampler on them. Draws are judged as in few_steps.py, and are not denoised. Lines go to
``FOLDER/cooperative.jsonl``.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections import deque
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import drl_density as drl
from drl_density.bases import FactorAnalysers
from drl_density.samplers import ShortRunSettings, sample_short_run
from drl_density.training import LangevinChains, LangevinRecovery
from tests.benchmarks.neighbours.cooperative import Averaged, Sheet, save, shorten
from tests.benchmarks.neighbours.larger_prior import PROBLEMS
from tests.benchmarks.neighbours.prior import to_rows

CHAINS = LangevinChains(num_steps=30, factor=2e-4)
SCHEDULE = drl.NoiseSchedule.linear_beta()
MIXED = 0.2  # of the square of the noise where a chain begins, and the rest of that where it ends
STEEPER = torch.tensor([1.0, 1.0, 1.0, 1.2, 1.2, 2.0])
BATCH, NUM_ALIKE = 16, 50
SAVED = 300.0  # seconds between two savings


def at_levels(matched: drl.EnergySequence) -> drl.EnergySequence:
    """The same energies at the paper's levels."""
    return drl.EnergySequence(SCHEDULE, matched.network, tuple(matched.event_shape), base=matched.base)


class NoisedBase(nn.Module):
    """A mixture of factor analysers under the noise of one level, from tables.

    Its evaluation is four products, while the mixture itself factors its matrices at every call; chains call it 180 times.
    """

    def __init__(self, base: FactorAnalysers, log_snr: Tensor) -> None:
        super().__init__()
        noised = copy.deepcopy(base).double().noised(log_snr)
        loaded = noised.loadings / noised.noises[:, :, None]
        gram = torch.eye(base.num_factors, dtype=torch.float64) + noised.loadings.mT @ loaded
        triangle = torch.linalg.cholesky(gram)
        whitened = torch.linalg.solve_triangular(triangle, loaded.mT, upper=False)  # (K, r, d)
        log_det = noised.noises.log().sum(1) + 2 * triangle.diagonal(dim1=1, dim2=2).log().sum(1)
        square = (noised.means.square() / noised.noises).sum(1)
        constant = noised.log_weights - 0.5 * (log_det + square + base.num_features * math.log(2 * math.pi))
        tables = {
            "precision": (1 / noised.noises).T,
            "linear": (noised.means / noised.noises).T,
            "constant": constant,
            "factors": whitened.flatten(0, 1).T,
            "offset": (whitened @ noised.means[:, :, None])[:, :, 0],
        }
        for name, table in tables.items():
            self.register_buffer(name, table.float().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, in nats, ``(n,)``."""
        along = (x @ self.factors).unflatten(1, self.offset.shape) - self.offset
        quadratic = x.square() @ self.precision - 2 * x @ self.linear - along.square().sum(2)
        return (self.constant - 0.5 * quadratic).logsumexp(1)


class ShortRunEnergy(nn.Module):
    """c_t times the log density of a sequence at a noise between two levels of the paper, at these levels alone."""

    def __init__(self, matched: drl.EnergySequence, steeper: Tensor) -> None:
        super().__init__()
        step_alpha, _ = SCHEDULE.langevin_steps(CHAINS.factor)
        clean, noisy = SCHEDULE.sigma[:-1], SCHEDULE.sigma[1:] / step_alpha
        signal, noise = SCHEDULE.alpha_at(torch.arange(len(clean))), (1 - MIXED) * clean**2 + MIXED * noisy**2
        self.network, self.levels = matched.network, SCHEDULE.log_snr[:-1]
        self.shrinkage = (signal**2 + noise).rsqrt().float()
        self.log_snr = (signal**2 / noise).log()
        self.factor = CHAINS.energy_scale(at_levels(matched), torch.arange(len(clean))).float() * steeper
        assert isinstance(matched.base, FactorAnalysers)
        self.bases = nn.ModuleList(NoisedBase(matched.base, log_snr) for log_snr in self.log_snr)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Energies of rows ``(n, d)`` at log-SNRs of the paper's levels, ``(n,)``."""
        level = (log_snr.double().expand(len(x))[:, None] - self.levels).abs().argmin(1)
        rows = self.shrinkage[level][:, None] * x
        order, counts = level.argsort(), level.bincount(minlength=len(self.levels)).tolist()
        parts = [base(part) for base, part in zip(self.bases, rows[order].split(counts), strict=True)]
        tilt = self.network(rows, self.log_snr[level].to(x))
        return self.factor[level] * (tilt + torch.cat(parts)[order.argsort()])


def new_model(matched: drl.EnergySequence, steeper: Tensor = STEEPER) -> drl.EnergySequence:
    """The paper's sequence at scaled energies of these weights."""
    network = ShortRunEnergy(matched, steeper)
    model = drl.EnergySequence(SCHEDULE, network, tuple(matched.event_shape), has_base=False)
    return model.requires_grad_(False)


def judge(sheet: Sheet, model: drl.EnergySequence, name: str, trained: float, seed: int) -> None:
    """Draws of the paper's sampler."""
    began, generator = time.process_time(), torch.Generator().manual_seed(2 + seed)
    settings = ShortRunSettings(CHAINS, max_rows=NUM_ALIKE)
    rows = sample_short_run(model, sheet.count, settings=settings, generator=generator).draws
    calls = CHAINS.num_steps * model.num_levels
    sheet.add(name, f"K = {CHAINS.num_steps}", calls, rows, time.process_time() - began, trained, 0)


def train(data: drl.Dataset, model: drl.EnergySequence, path: Path, seconds: float, rate: float, seed: int) -> None:
    """Recovery likelihood for so many seconds of the processor, whose rate falls to 0 over the last third."""
    network = model.network
    assert isinstance(network, ShortRunEnergy)
    weights = list(network.network.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.99), weight_decay=1e-3)
    average, objective = Averaged(weights), LangevinRecovery(CHAINS, shares_noise=True)
    generator, began, steps, shown = torch.Generator().manual_seed(seed), time.process_time(), 0, []
    saved, norms = 0.0, deque[float](maxlen=50)
    while (gone := (time.process_time() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (steps + 1) / 20, 3 * (1 - gone))
        rows = to_rows(data.train[torch.randint(len(data.train), (BATCH,), generator=generator)], generator)
        optimizer.zero_grad()
        value = objective(model, rows, torch.ones(model.num_levels), generator=generator)
        value.loss.backward()
        shorten(weights, norms)
        optimizer.step()
        average.update()
        steps += 1
        shown.append(value.statistics.energy_gap)
        if steps % 20 == 0:  # gaps that grow without end are the sign of divergence
            gaps = [round(gap, 1) for gap in torch.stack(shown[-20:]).nanmean(0).tolist()]
            spent = time.process_time() - began
            print(f"{spent:.0f} s, step {steps}: gaps of the levels {gaps}, norm {median(norms):.3g}", flush=True)
            if spent > saved + SAVED:
                saved = spent
                average.swap()
                save(model, path)
                average.swap()
    average.swap()
    save(model, path)
    print(f"{steps} steps", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Judge the start, train, or judge what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of larger_prior.py and of the classifier")
    parser.add_argument("part", choices=["start", "train", "draw"])
    parser.add_argument("--seconds", type=float, default=400.0, help="of training, in all for draw")
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the batches, and of the noise of the draws")
    parser.add_argument("--resumed", action="store_true", help="begin at the weights of an earlier call")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = args.folder / "t6.safetensors"
    matched = PROBLEMS["digits of many levels"].load(args.folder / "prior.safetensors")
    if args.part == "start":
        sheet = Sheet(args.folder, args.count)
        judge(sheet, at_levels(matched).requires_grad_(False), "the weights as they are", 0.0, args.seed)
        judge(sheet, new_model(matched, torch.ones_like(STEEPER)), "scaled", 0.0, args.seed)
        judge(sheet, new_model(matched), "scaled, and steeper at the top", 0.0, args.seed)
        return
    model = new_model(matched)
    if args.resumed or args.part == "draw":
        model.load_state_dict(load_file(path))
    if args.part == "train":
        train(drl.load_dataset(str(args.folder / "data.npz"), seed=0), model, path, args.seconds, args.rate, args.seed)
    else:
        judge(Sheet(args.folder, args.count), model, "T6", args.seconds, args.seed)


if __name__ == "__main__":
    main()
