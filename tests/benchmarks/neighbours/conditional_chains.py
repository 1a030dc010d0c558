"""Long adjusted chains on recovery conditionals, as in the DRL paper: a thousand levels, 1, 10 or 100 steps at each.

    python -m tests.benchmarks.neighbours.larger_prior "digits of many levels" --source mnist.npz --out FOLDER --seconds 2700
    python -m tests.benchmarks.neighbours.cooperative FOLDER classifier --digits mnist.npz
    python -m tests.benchmarks.neighbours.conditional_chains FOLDER tune
    python -m tests.benchmarks.neighbours.conditional_chains FOLDER run --steps 100 --chains 4
    python -m tests.benchmarks.neighbours.conditional_chains FOLDER figure 1_16 100_4 --figure chains.png

The energies of larger_prior.py get the 999 levels of the preset cifar10_t1k. Chains begin at N(0, I). At each level, from
the most noise to the least, the first step draws from the normal approximation of the conditional given the last state of
the level above, and the others are HMC of two leapfrog steps. Where there is more noise than in training, a level is its
base alone. ``tune`` finds step sizes in units of the conditional's scale at every 40th level, by dual averaging towards an
acceptance of 0.75; a run interpolates them, and keeps them. It writes its states every 20 levels, and a second call resumes
it there. States are denoised at their level before the classifier sees them. Lines go to
``FOLDER/conditional_chains.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import drl_density as drl
from drl_density.mcmc import HMC, DualAveraging, run_chain, take_steps
from drl_density.sample_quality import FeatureExtractor, classifier_features, confident_share
from tests.benchmarks.neighbours.few_steps import new_figure
from tests.benchmarks.neighbours.larger_prior import PROBLEMS
from tests.benchmarks.neighbours.prior import to_grey

KERNEL = HMC(num_leapfrog=2)
APART, NUM_TUNING, TARGET = 40, 40, 0.75
SEED, SAVED, LOOKS = 7, 20, (800, 700, 600, 500, 400, 300, 250, 200, 150, 100, 50, 0)


class Learned(nn.Module):
    """A network where it was trained, and 0 where there is more noise.

    Args:
        network: the network of a sequence.
        floor: least log-SNR of its training.
    """

    has_bounded_growth = True

    def __init__(self, network: nn.Module, floor: float) -> None:
        super().__init__()
        self.network, self.floor = network, floor

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Values g of rows at one log-SNR ``()``."""
        return self.network(x, log_snr) if float(log_snr) >= self.floor else 0.0 * x.sum(1)


def many_levels(path: Path, *, is_compiled: bool = False) -> drl.EnergySequence:
    """The trained energies at the 999 levels of the paper."""
    prior = PROBLEMS["digits of many levels"].load(path)
    network = torch.compile(prior.network, dynamic=False) if is_compiled else prior.network
    schedule = drl.NoiseSchedule.linear_beta(range(1000))
    learned = Learned(network, float(prior.schedule.log_snr[-1]))
    return drl.EnergySequence(schedule, learned, prior.event_shape, base=prior.base).requires_grad_(False)


def first_draw(family: drl.model.Recovery, x: Tensor, generator: torch.Generator) -> Tensor:
    """A draw from the normal approximation of the conditional given ``x``."""
    normal = family.normal_approximation(x)
    return normal.mean + normal.stddev * torch.randn(x.shape, generator=generator)


def tuned(model: drl.EnergySequence, chains: int) -> Tensor:
    """Step sizes in units of the conditional's scale at every 40th level and the last ones, ``(n, 2)`` with the level."""
    generator, found = torch.Generator().manual_seed(6), []
    x = torch.randn(chains, *model.event_shape, generator=generator)
    ratio = 0.5
    for level in reversed(range(model.num_levels)):
        family = model.recovery(level)
        start = first_draw(family, x, generator)
        if level % APART == 0 or level in (5, 10, 20, model.num_levels - 1):
            result = run_chain(
                KERNEL,
                family.condition(x).unnormalized_log_prob,
                start,
                num_steps=1,
                step_size=ratio * family.scale,
                num_warmup=NUM_TUNING,
                adaptation=DualAveraging(TARGET),
                generator=generator,
            )
            start, ratio = result.final_state.position, float(torch.as_tensor(result.step_size)) / family.scale
            found.append((float(level), ratio))
            print(f"level {level}: {ratio:.3f} of {family.scale:.4f}", flush=True)
        x = start
    return torch.tensor(found[::-1], dtype=torch.float64)


def ratio_at(sizes: Tensor, level: int) -> float:
    """Step size in units of the conditional's scale at a level, linear in the level between those tuned."""
    above = int(torch.searchsorted(sizes[:, 0].contiguous(), float(level)).clamp(1, len(sizes) - 1))
    (low, first), (high, second) = sizes[above - 1].tolist(), sizes[above].tolist()
    return first + (second - first) * (level - low) / (high - low)


def judged(model: drl.EnergySequence, look: FeatureExtractor, x: Tensor, level: int) -> tuple[dict[str, object], Tensor]:
    """What the classifier makes of states of a level, and their pictures."""
    grey = to_grey(model.denoise(x, level))
    chances = look.apply(grey).log_probabilities.exp()
    found = {
        "level": level,
        "confident": confident_share(chances),
        "mean_top": float(chances.amax(1).mean()),
        "classes": chances.argmax(1).tolist() if len(x) <= 64 else len(set(chances.argmax(1).tolist())),
    }
    return found, grey


def run(model: drl.EnergySequence, folder: Path, steps: int, chains: int, stop: float, seed: int) -> None:
    """Chains from noise to level 0, or up to where ``stop`` seconds of the wall are over."""
    name = f"chains_{steps}_{chains}" + (f"_{seed}" if seed != SEED else "")
    path, sizes = folder / f"{name}.pt", torch.load(folder / "sizes.pt")
    look = classifier_features(folder / "classifier.safetensors")
    generator = torch.Generator().manual_seed(seed)
    x, top, rates, pictures, spent = (
        torch.randn(chains, *model.event_shape, generator=generator),
        model.num_levels,
        torch.full((model.num_levels,), torch.nan),
        dict[int, Tensor](),
        0.0,
    )
    if path.exists():
        kept = torch.load(path)
        x, top, rates, pictures, spent = (kept[name] for name in ("x", "level", "rates", "pictures", "seconds"))
        generator.set_state(kept["generator"])
    began, began_wall = time.process_time() - spent, time.monotonic()
    for level in reversed(range(top)):
        family = model.recovery(level)
        target, start = family.condition(x).unnormalized_log_prob, first_draw(family, x, generator)
        if steps > 1:
            size = ratio_at(sizes, level) * family.scale
            taken = take_steps(
                KERNEL, KERNEL.init(start, target), target, num_steps=steps - 1, step_size=size, generator=generator
            )
            start, rates[level] = taken.state.position, float(taken.acceptance_rate.mean())
        x = start
        spent = time.process_time() - began
        if level in LOOKS:
            found, pictures[level] = judged(model, look, x, level)
            bands = torch.stack([part.nanmean() for part in rates.split(50) if not bool(part.isnan().all())] or [rates[0]])
            line = {"steps": steps * model.num_levels, "chains": chains, "seed": seed, **found}
            line |= {"acceptance": [float(bands.min()), float(bands.max())], "seconds": round(spent)}
            with (folder / "conditional_chains.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
        is_over = time.monotonic() - began_wall > stop
        if level % SAVED == 0 or is_over:
            values = {"x": x, "level": level, "rates": rates, "pictures": pictures, "seconds": spent}
            torch.save(values | {"generator": generator.get_state()}, path)
            print(f"level {level}: {spent:.0f} s of the processor, acceptance {float(rates[level]):.2f}", flush=True)
        if is_over:
            return


def draw(path: Path, folder: Path, shown: list[str]) -> None:
    """Ends of the chains of each length, beside the states of the last ones along the levels."""
    kept = {name: torch.load(folder / f"chains_{name}.pt")["pictures"] for name in shown}
    figure = new_figure(7.5, 1.1 + 0.45 * 4)
    *left, right = figure.subplots(1, len(kept) + 1, width_ratios=[1.0] * len(kept) + [3.0])
    for axis, (name, pictures) in zip(left, kept.items(), strict=True):
        ends = pictures[min(pictures)][:16, 0]
        blank = torch.zeros(-len(ends) % 4, 28, 28, dtype=ends.dtype)
        tiles = torch.cat([ends, blank]).reshape(-1, 4, 28, 28).permute(0, 2, 1, 3)
        axis.imshow(tiles.flatten(2).flatten(0, 1), cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(f"{int(name.split('_')[0]) * 999:,} steps", fontsize=8)
        axis.set_axis_off()
    levels = sorted(kept[shown[-1]], reverse=True)
    tiles = torch.stack([kept[shown[-1]][level][:4, 0] for level in levels]).permute(1, 2, 0, 3)
    right.imshow(tiles.flatten(2).flatten(0, 1), cmap="gray_r", vmin=0, vmax=255)
    right.set_xticks([14 + 28 * index for index in range(len(levels))], levels, fontsize=6)
    right.set_yticks([])
    right.set_xlabel("states of these chains at levels of less and less noise, denoised", fontsize=7)
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    """Tune, run or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of larger_prior.py and of the classifier")
    parser.add_argument("part", choices=["tune", "run", "figure"])
    parser.add_argument("shown", nargs="*", help="chains of the figure, as STEPS_CHAINS or STEPS_CHAINS_SEED")
    parser.add_argument("--steps", type=int, default=10, help="at each level")
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--stop", type=float, default=float("inf"), help="seconds of the wall after which to stop")
    parser.add_argument("--compiled", action="store_true", help="run the network through torch.compile")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.part == "figure":
        draw(args.figure, args.folder, args.shown)
        return
    model = many_levels(args.folder / "prior.safetensors", is_compiled=args.compiled)
    if args.part == "tune":
        torch.save(tuned(model, args.chains), args.folder / "sizes.pt")
    else:
        run(model, args.folder, args.steps, args.chains, args.stop, args.seed)


if __name__ == "__main__":
    main()
