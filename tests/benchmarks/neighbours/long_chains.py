"""Long adjusted chains on a sequence that cooperative.py trained: do digits stay digits?

    python -m tests.benchmarks.neighbours.long_chains runs/neighbours cdrl_300 --steps 10000
    python -m tests.benchmarks.neighbours.long_chains runs/neighbours cdrl_300 --steps 100000 --continued
    python -m tests.benchmarks.neighbours.long_chains runs/neighbours cdrl_300 --figure docs/images/long_chains.png

Two kinds of chains, 16 of each, by MALA at a step size that is tuned over the first 200 steps. Those at level 0 start at
test digits with the noise of that level. Those on recovery conditionals start at noise and make a share of the steps at each
level, from the most noise to the least, as in the figures of the DRL paper. ``--continued`` takes the chains at level 0 from
the last step of an earlier run to a larger ``--steps``, after a new warm-up. States are denoised at their level before
the classifier sees them; "confident" is the share to which it gives one class a probability of 0.9. Lines go to
``FOLDER/long_chains.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import drl_density as drl
from drl_density.mcmc import MALA, ChainStep, DualAveraging, Recording, run_chain
from drl_density.sample_quality import confident_share
from tests.benchmarks.neighbours.cooperative import LEVELS, Sheet, load_named
from tests.benchmarks.neighbours.few_steps import new_figure
from tests.benchmarks.neighbours.prior import SIDE, to_grey, to_rows

NUM_CHAINS, NUM_WARMUP, NUM_LOOKS = 16, 200, 10
LOOKS = [digit * 10**power for power in range(2, 6) for digit in (1, 2, 5)]  # steps at which chains at level 0 are seen


class Watch:
    """Writes what a classifier makes of the states at a few steps, and keeps their pictures."""

    def __init__(self, model: drl.EnergySequence, sheet: Sheet, name: str, kind: str) -> None:
        self.model, self.sheet, self.name, self.kind = model, sheet, name, kind
        self.pictures: list[Tensor] = []

    def look(self, x: Tensor, level: int, step: int, rate: float) -> None:
        """Judge the states after so many steps in all."""
        grey = to_grey(self.model.denoise(x, level))
        found = self.sheet.judge.look.apply(grey)
        chances = found.log_probabilities.exp()
        line = {
            "model": self.name,
            "chains": self.kind,
            "level": level,
            "step": step,
            "confident": confident_share(chances),
            "mean_top": float(chances.amax(1).mean()),
            "classes": len(set(chances.argmax(1).tolist())),
            "log_density": float(self.model.log_density(x, level).mean()),
            "log_density_error": float(self.model.log_density(x, level).std()) / len(x) ** 0.5,
            "acceptance": rate,
        }
        with (self.sheet.folder / "long_chains.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        self.pictures.append(grey)

    def run(
        self, target: Callable[[Tensor], Tensor], x: Tensor, level: int, steps: int, done: int, size: float, looks: list[int]
    ) -> tuple[Tensor, float]:
        """Make so many steps on a target, and look where all steps made are in ``looks``; the last states and step size."""
        rates = [0.0]

        def on_step(step: ChainStep) -> None:
            if step.is_warmup:
                return
            rates.append(float(step.info.acceptance_probability.mean()))
            made = done + step.index - NUM_WARMUP + 1
            if made in looks:
                self.look(step.state.position, level, made, sum(rates[1:]) / len(rates[1:]))

        recording = Recording(keep_draws=False, on_step=on_step)
        result = run_chain(
            MALA(),
            target,
            x,
            num_steps=steps,
            step_size=size,
            num_warmup=NUM_WARMUP,
            adaptation=DualAveraging(MALA.target_acceptance),
            recording=recording,
            generator=torch.Generator().manual_seed(5 + done),
        )
        return result.final_state.position, float(torch.as_tensor(result.step_size).mean())


def at_level_0(
    model: drl.EnergySequence, sheet: Sheet, name: str, steps: int, *, is_continued: bool = False
) -> list[Tensor]:
    """Chains on the marginal density of level 0, from noised test digits or from the end of an earlier run."""
    path = sheet.folder / f"long_chains_{name}_state.pt"
    watch = Watch(model, sheet, name, "level 0, from digits")
    if is_continued:
        kept = torch.load(path)
        x, done, size, watch.pictures = kept["x"], kept["done"], kept["size"], kept["pictures"]
    else:
        generator = torch.Generator().manual_seed(4)
        order = torch.randperm(len(sheet.data.test), generator=generator)[:NUM_CHAINS]
        rows = to_rows(sheet.data.test[order], generator)
        x, done, size = model.schedule.diffuse(rows, 0, generator=generator), 0, 0.3 * float(model.schedule.sigma[0])
        watch.look(x, 0, 0, 1.0)
    x, size = watch.run(lambda point: model.log_density(point, 0), x, 0, steps - done, done, size, [*LOOKS, steps])
    torch.save({"x": x, "done": steps, "size": size, "pictures": watch.pictures}, path)
    return watch.pictures


def on_conditionals(model: drl.EnergySequence, sheet: Sheet, name: str, steps: int) -> list[Tensor]:
    """Chains on the conditionals of each level given the last state of the one above, from noise."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(NUM_CHAINS, SIDE * SIDE, generator=generator)
    watch, part = Watch(model, sheet, name, "recovery conditionals, from noise"), steps // LEVELS
    for level in reversed(range(LEVELS)):
        target, family = model.recovery(level).condition(x), model.recovery(level)
        start, done = x / family.step_alpha, (LEVELS - 1 - level) * part
        looks = list(range(done, done + part + 1, max(1, part // NUM_LOOKS)))[1:]
        x, _ = watch.run(target.unnormalized_log_prob, start, level, part, done, 0.5 * family.scale, looks)
    return watch.pictures


def draw(path: Path, pictures: dict[str, list[Tensor]]) -> None:
    """One block for each kind of chains: a row for each of a few chains, from left to right along the chain."""
    figure = new_figure(7.5, 3.9)
    for axis, (kind, states) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        shown = states if len(states) <= 12 else states[:: len(states) // 12]
        tiles = torch.stack([state[:10, 0] for state in shown])  # (times, chains, side, side)
        axis.imshow(tiles.permute(1, 2, 0, 3).reshape(10 * SIDE, -1).numpy(), cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(kind, fontsize=9)
        axis.set_axis_off()
    figure.savefig(path, dpi=80)


def main(arguments: list[str] | None = None) -> None:
    """Run both kinds of chains, or draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of cooperative.py")
    parser.add_argument("name", help="file of the weights without its ending")
    parser.add_argument("--steps", type=int, default=10_000, help="of the chains at level 0")
    parser.add_argument("--conditional-steps", type=int, default=6000, help="of the other chains, over all levels; or 0")
    parser.add_argument("--continued", action="store_true", help="chains at level 0 alone, from their last step on")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kept, began = args.folder / f"long_chains_{args.name}.pt", time.process_time()
    if args.figure:
        draw(args.figure, torch.load(kept))
        return
    sheet = Sheet(args.folder, 400)
    model = load_named(args.folder, args.name)
    pictures = torch.load(kept) if kept.exists() else {}
    if args.conditional_steps and not args.continued:
        pictures["on recovery conditionals, from noise"] = on_conditionals(
            model, sheet, args.name, args.conditional_steps
        )
    states = at_level_0(model, sheet, args.name, args.steps, is_continued=args.continued)
    torch.save(pictures | {"at level 0, from test digits": states}, kept)
    print(f"{time.process_time() - began:.0f} s of the processor")


if __name__ == "__main__":
    main()
