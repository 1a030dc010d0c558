"""A one-step student and a finetuned walk of five calls, both of the trained sequence of prior.py.

    python -m tests.benchmarks.neighbours.distilled runs/neighbours pairs
    python -m tests.benchmarks.neighbours.distilled runs/neighbours student --seconds 150 --em-seconds 50
    python -m tests.benchmarks.neighbours.distilled runs/neighbours walk --seconds 100
    python -m tests.benchmarks.neighbours.distilled runs/neighbours figure --figure docs/images/distilled_digits.png

The teacher is a multistep walk of ten calls. ``pairs`` walks from noise to level 0 twice, with the teacher and with its
base alone, which has a closed form. ``student`` regresses the ends of the first on the noise and the ends of the second,
by a U-Net that is called once, and then takes updates by EM. ``walk`` finetunes a DDIM walk of five calls on the training
digits by the kernel of ``density.distill``, in pixels and in features of a second
classifier, which judges nothing; with ``--rule multistep`` it finetunes the multistep walk of five calls in its place.
With ``--seconds 0`` it judges the walks that need no training. Lines of these that the file has already are not made again.
``figure`` shows the walks of all runs of ``walk`` in the folder.

Draws are states of level 0, compared in pixels of range 2. "sliced" is the mean sliced Wasserstein-1 distance to sets of a
thousand draws of the teacher, in units of that between two such sets. "told" is the accuracy of gradient boosting on the
features of the classifier of prior.py, in five folds. The Frechet distance, precision and recall are in these features, and
"cubic" is the unbiased squared discrepancy in them. "rbf" is that of pixels by a Gaussian kernel of the median width. No
training used either kernel. The student is compared with draws of the teacher, the walk with test digits. Seconds are of
the processor, one thread. Lines go to ``FOLDER/distilled.jsonl``.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

import drl_density as drl
from drl_density.descent import Adam
from drl_density.distillation import (
    EMDistillationSettings,
    MMDSettings,
    OneStepGenerator,
    RollOut,
    cubic_kernel,
    distill_by_em,
    energy_kernel,
    finetune,
    log_kernel,
    rbf_kernel,
    unbiased_mmd,
)
from drl_density.distillation.mmd import FeatureKernel
from drl_density.execution import precision
from drl_density.networks import UNetEnergy
from drl_density.sample_quality import classifier_features, precision_and_recall
from drl_density.samplers import DDIMSettings, MultistepDenoiser, sample_ddim
from tests.benchmarks.distillation import distances, told_apart
from tests.benchmarks.neighbours.few_steps import frechet, new_figure
from tests.benchmarks.neighbours.prior import LOW, SIDE, SIZES, Prior, fit_classifier, to_grey, to_rows

NUM_PAIRS, NUM_SETS, NUM_DRAWS, BATCH = 8000, 4, 1000, 64
TEACHER, WALK = DDIMSettings(num_steps=10), DDIMSettings(num_steps=5)
EM = EMDistillationSettings(
    batch_size=BATCH,
    learning_rate=2e-5,
    score_steps=1,
    score_learning_rate=5e-4,
    first_score_steps=200,
    lowest_level=1.0,
)


class Images(UNetEnergy):
    """The U-Net of the energy as a map between images, of as many channels as it is given; it starts at zero."""

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        """Images ``(n, channels, side, side)`` of flat rows of them."""
        images = x.reshape(len(x), -1, SIDE, SIDE)
        with torch.autocast("cpu", dtype=LOW, enabled=LOW is not None):
            level = functional.silu(self.level(self.embed_level(log_snr)))
            state = self.enter(functional.pixel_unshuffle(images, self.settings.patch_size))
            for block in self.middle.children():
                state = block(state, level)
            output = functional.pixel_shuffle(self.leave(functional.silu(state)), self.settings.patch_size)
        return output.float()


def new_images(channels: int, seed: int) -> Images:
    """A map between images of so many channels, as large as the network of the sequence."""
    sizes = replace(SIZES, image_shape=(channels, SIDE, SIDE))
    return Images(sizes, generator=torch.Generator().manual_seed(seed))


class StudentMap(nn.Module):
    """One call of a U-Net for noise and the end of the base's walk, beside which its output is a correction."""

    def __init__(self) -> None:
        super().__init__()
        self.images = new_images(2, 1)

    def forward(self, codes: Tensor) -> Tensor:
        """Rows ``(n, d)`` of codes ``(n, 2 d)``."""
        return codes[:, SIDE * SIDE :] + self.images(codes, torch.zeros(()))[:, -1].flatten(1)


class GapMap(nn.Module):
    """The gap of the student's scores, times the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.images = new_images(1, 2)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Rows ``(n, d)`` of states ``(n, d)``."""
        return self.images(x, log_snr).flatten(1)


class Student(OneStepGenerator):
    """The generator whose codes are noise and the end of the base's walk from it, from a store while it learns."""

    def __init__(self, base: drl.EnergySequence) -> None:
        super().__init__(StudentMap(), 2 * SIDE * SIDE)
        self.base, self.store = [base], torch.empty(0)

    def latents(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Codes ``(num_samples, 2 d)``."""
        if len(self.store):
            return self.store[torch.randint(len(self.store), (num_samples,), generator=generator)]
        noise = torch.randn(num_samples, SIDE * SIDE, generator=generator)
        return torch.cat([noise, walked(self.base[0], noise)], 1)


class NoTilt(nn.Module):
    """The network of a sequence that is its base."""

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Zeros ``(n,)``."""
        return 0 * x.flatten(1).sum(1)


def walked(model: drl.EnergySequence, noise: Tensor, settings: DDIMSettings = TEACHER) -> Tensor:
    """States of level 0 from noise by the multistep walk."""
    rule = MultistepDenoiser(model, settings)
    with precision(model, LOW):
        return sample_ddim(model, len(noise), settings=settings, noise=noise, denoiser=rule).draws


@dataclass
class Bench:
    """The sequence, its base, the pairs and the file of records."""

    folder: Path
    prior: Prior
    out: Path

    @property
    def base(self) -> drl.EnergySequence:
        """The sequence without its network."""
        return drl.EnergySequence(self.prior.model.schedule, NoTilt(), (SIDE * SIDE,), base=self.prior.model.base)

    @property
    def pairs(self) -> dict[str, Tensor]:
        """Codes and ends to learn from, and ends of the teacher to compare with."""
        return load_file(self.folder / "pairs.safetensors")

    def line(self, **found: object) -> None:
        """Print and write a line."""
        with self.out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)

    def features(self, rows: Tensor) -> Tensor:
        """Features of flat rows of pixels, as 8-bit images."""
        return self.prior.look.apply(to_grey(rows)).values

    def compare(self, rows: Tensor, other: Tensor) -> dict[str, float]:
        """Measures between equally many rows and others."""
        mine, theirs = self.features(rows), self.features(other)
        width = float(torch.cdist(other[:500], other[:500]).median())
        found_precision, recall = precision_and_recall(mine, theirs)
        return {
            "frechet": frechet(mine, theirs),
            "precision": found_precision,
            "recall": recall,
            "cubic": float(unbiased_mmd(mine, theirs, cubic_kernel)),
            "rbf": float(unbiased_mmd(rows.double(), other.double(), rbf_kernel(0.5 / width**2))),
            "energy": float(unbiased_mmd(rows.double(), other.double(), energy_kernel)),
        }


def make_pairs(bench: Bench) -> None:
    """Noise, the ends of the base's walk from it, and those of the teacher's."""
    began = time.process_time()
    noise = torch.randn(NUM_PAIRS + NUM_SETS * NUM_DRAWS, SIDE * SIDE, generator=torch.Generator().manual_seed(1))
    ends = torch.cat([walked(bench.prior.model, part) for part in noise.split(500)])
    base = torch.cat([walked(bench.base, part) for part in noise[:NUM_PAIRS].split(500)])
    codes = torch.cat([noise[:NUM_PAIRS], base], 1)
    pairs = {"codes": codes, "ends": ends[:NUM_PAIRS].contiguous(), "teacher": ends[NUM_PAIRS:].contiguous()}
    save_file(pairs, bench.folder / "pairs.safetensors")
    moved = float((ends[:NUM_PAIRS] - base).square().mean().sqrt())
    bench.line(part="pairs", count=len(ends), moved=moved, seconds=round(time.process_time() - began, 1))


def regress(student: Student, ends: Tensor, seconds: float) -> tuple[int, float]:
    """Learn the ends from the store of codes for so many seconds; returns the steps and the error on 500 others."""
    codes, generator = student.store, torch.Generator().manual_seed(3)
    optimizer, began, steps = Adam(student.parameters(), lr=1e-3, betas=(0.9, 0.99)), time.process_time(), 0
    average = torch.optim.swa_utils.AveragedModel(
        student.network, avg_fn=lambda old, new, count: torch.lerp(old, new, max(1 / (1 + int(count) / 4), 5e-3))
    )
    while (gone := (time.process_time() - began) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (steps + 1) / 50, 2 * (1 - gone))
        rows = torch.randint(500, len(codes), (BATCH,), generator=generator)
        optimizer.zero_grad()
        (student(codes[rows]) - ends[rows]).square().flatten(1).sum(1).mean().backward()
        optimizer.step()
        average.update_parameters(student.network)
        steps += 1
    student.network.load_state_dict(average.module.state_dict())
    with torch.no_grad():
        return steps, float((student(codes[:500]) - ends[:500]).square().mean().sqrt())


def judge_student(bench: Bench, name: str, sets: list[Tensor], seconds: float, **more: object) -> None:
    """Compare sets of draws with those of the teacher."""
    teacher = list(bench.pairs["teacher"].split(NUM_DRAWS))
    among = distances([x.double() for x in teacher], [x.double() for x in teacher])
    unit = float(among.sum() / (NUM_SETS * (NUM_SETS - 1)))
    found = distances([x.double() for x in sets], [x.double() for x in teacher]) / unit
    if name == "the teacher":
        found = found[~torch.eye(len(found), dtype=torch.bool)]
    told = np.mean(
        [told_apart(bench.features(x), bench.features(y)) for x, y in zip(sets[:2], teacher[-2:], strict=True)]
    )
    rest = bench.compare(torch.cat(sets[:2]), torch.cat(teacher[-2:]))
    bench.line(
        part="student",
        draws=name,
        sliced=float(found.mean()),
        told=float(told),
        **rest,
        seconds=round(seconds, 1),
        **more,
    )


def make_student(bench: Bench, seconds: float, em_seconds: float, em: EMDistillationSettings, name: str) -> None:
    """Regress, correct by EM, judge both; the regression's weights are kept, and read again where there are some."""
    torch.manual_seed(0)
    pairs, student, began = bench.pairs, Student(bench.base), time.process_time()
    noise = [torch.Generator().manual_seed(500 + index) for index in range(NUM_SETS)]
    path = bench.folder / "student.safetensors"
    if path.exists():
        student.network.load_state_dict(load_file(path))
    else:
        judge_student(bench, "the teacher", list(pairs["teacher"].split(NUM_DRAWS)), 0.0)
        codes = [Student(bench.base).latents(NUM_DRAWS, generator=source) for source in noise]
        judge_student(bench, "the base", [x[:, SIDE * SIDE :] for x in codes], 0.0)
        student.store, began = pairs["codes"], time.process_time()
        steps, error = regress(student, pairs["ends"], seconds)
        save_file({key: value.contiguous() for key, value in student.network.state_dict().items()}, path)
        spent, student.store = time.process_time() - began, torch.empty(0)
        noise = [source.manual_seed(500 + index) for index, source in enumerate(noise)]
        drawn = [student.sample(NUM_DRAWS, generator=source) for source in noise]
        judge_student(bench, "student, regression", drawn, spent, steps=steps, error=error)
    if em_seconds:
        student.store, began, gap = pairs["codes"], time.process_time(), GapMap()
        # The first updates set the time of one, and so their number.
        generator = torch.Generator().manual_seed(4)
        with precision(bench.prior.model, LOW):
            trial = replace(em, num_steps=5, first_score_steps=5, learning_rate=1e-12)
            distill_by_em(bench.prior.model, student, gap_network=gap, settings=trial, generator=generator)
            per_pass = (time.process_time() - began) / (5 + 5 * (1 + em.score_steps))
            steps = max(1, int((em_seconds / per_pass - em.first_score_steps) / (1 + em.score_steps)))
            chosen = replace(em, num_steps=steps)
            drifts = distill_by_em(bench.prior.model, student, gap_network=gap, settings=chosen, generator=generator)
        spent, student.store = time.process_time() - began, torch.empty(0)
        drawn = [student.sample(NUM_DRAWS, generator=source.manual_seed(500 + i)) for i, source in enumerate(noise)]
        tenth = max(1, len(drifts) // 10)
        ends = [float(np.mean(drifts[:tenth])), float(np.mean(drifts[-tenth:]))]
        judge_student(bench, f"student, {name}", drawn, spent, steps=steps, drifts=ends)


def critic(bench: Bench) -> Callable[[Tensor], Tensor]:
    """Pixels and features of a second classifier, scaled alike; differentiable in the rows."""
    path = bench.folder / "critic.safetensors"
    if not path.exists():
        fit_classifier(bench.prior.data, path, torch.Generator().manual_seed(7))
    look = classifier_features(path).features

    def describe(rows: Tensor) -> Tensor:
        return look(((rows.float() + 1) * 128 - 0.5).reshape(-1, 1, SIDE, SIDE))

    sample = to_rows(bench.prior.data.train[:1000], torch.Generator().manual_seed(0))
    with torch.no_grad():
        scale = float(sample.std(0).norm() / describe(sample).std(0).norm())
    return lambda rows: torch.cat([rows.float(), scale * describe(rows)], 1)


def split_kernel(name: str, squared: float) -> FeatureKernel:
    """The kernel of pixels plus that of features, for rows of this median squared distance; as in ``density.distill``."""
    size, width = SIDE * SIDE, squared**0.5
    part = log_kernel(0.02 * width) if name == "log" else energy_kernel
    return lambda x, y: part(x[:, :size], y[:, :size]) + part(x[:, size:], y[:, size:])


@dataclass(frozen=True)
class WalkPlan:
    """How a walk is finetuned: its rule, the kernel, the seed, and the name of its line."""

    rule: str
    kernel: str
    seed: int
    name: str


def make_walk(bench: Bench, seconds: float, settings: MMDSettings, plan: WalkPlan) -> None:
    """Finetune the walk of five calls, judged before and after by held-out digits."""
    generator = torch.Generator().manual_seed(0)
    lines = bench.out.read_text().splitlines() if bench.out.exists() else []
    known = {line["draws"] for line in map(json.loads, lines) if line["part"] == "walk"}
    order = torch.randperm(len(bench.prior.data.test), generator=generator)
    held = to_rows(bench.prior.data.test[order[:2000]], generator)
    noise = torch.randn(2000, SIDE * SIDE, generator=torch.Generator().manual_seed(5))
    rows = to_rows(bench.prior.data.train, generator)
    if "training digits" not in known:
        bench.line(part="walk", draws="training digits", **bench.compare(rows[:2000], held))
    if "the teacher" not in known:
        teacher = torch.cat([walked(bench.prior.model, part) for part in noise.split(500)])
        bench.line(part="walk", draws="the teacher", **bench.compare(teacher, held))
    path = bench.folder / "walk.pt"
    pictures = torch.load(path) if path.exists() else {}

    def judge(walk: RollOut, name: str, **more: object) -> None:
        shown = noise[:24] if name in known else noise
        with torch.no_grad(), precision(walk.model, LOW):
            drawn = torch.cat([walk(part) for part in shown.split(500)])
        pictures[name] = drawn[:24].clone()
        if name not in known:
            bench.line(part="walk", draws=name, **bench.compare(drawn, held), **more)

    walks = {rule: RollOut(bench.prior.model, WALK, is_multistep=rule == "multistep") for rule in ("DDIM", "multistep")}
    for rule, walk in walks.items():
        judge(walk, f"{rule}, 5 calls")
    if not seconds:
        return
    squared, walk = float(torch.cdist(rows[:500], rows[:500]).square().median()), walks[plan.rule]
    kernel, generator = split_kernel(plan.kernel, squared), generator.manual_seed(plan.seed)
    features, began = critic(bench), time.process_time()
    with precision(walk.model, LOW):
        trial = replace(settings, num_steps=2, learning_rate=1e-12)
        finetune(walk, rows, kernel=kernel, features=features, settings=trial, generator=generator)
        steps = max(1, int(seconds * 2 / (time.process_time() - began)))
        chosen = replace(settings, num_steps=steps)
        finetune(walk, rows, kernel=kernel, features=features, settings=chosen, generator=generator)
    spent = round(time.process_time() - began, 1)
    judge(walk, plan.name, steps=steps, seconds=spent, kernel=plan.kernel, seed=plan.seed)
    torch.save(pictures, path)


def draw_figure(bench: Bench, path: Path) -> None:
    """Draws of the teacher and the student from the same noise, which no training saw, and of each walk before and after.

    The walks begin at one noise too, which is not that of the teacher's draws: all that ``walk`` has made in the folder.
    """
    student = Student(bench.base)
    student.network.load_state_dict(load_file(bench.folder / "student.safetensors"))
    with torch.no_grad():
        drawn = student(bench.pairs["codes"][:24])
    parts = {"teacher, 10 calls": bench.pairs["ends"][:24], "student, 1 call, from the same noise": drawn}
    walks = torch.load(bench.folder / "walk.pt")
    parts |= dict(sorted(walks.items(), key=lambda item: (item[0].startswith("multistep"), "finetuned" in item[0])))
    figure = new_figure(6, 1.23 * len(parts))
    for axis, (title, rows) in zip(figure.subplots(len(parts), 1), parts.items(), strict=True):
        tiles = to_grey(rows)[:24, 0].reshape(2, 12, SIDE, SIDE).permute(0, 2, 1, 3).reshape(2 * SIDE, 12 * SIDE)
        axis.imshow(tiles.numpy(), cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(title, fontsize=9, pad=2)
        axis.set_axis_off()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    Image.open(drawn).convert("L").quantize(32).save(path, optimize=True)


def main(arguments: list[str] | None = None) -> None:
    """Make, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of prior.py")
    parser.add_argument("part", choices=["pairs", "student", "walk", "figure"])
    parser.add_argument("--seconds", type=float, default=150.0, help="of the regression, or of finetuning")
    parser.add_argument("--em-seconds", type=float, default=50.0, help="of updates by EM; 0 for none")
    parser.add_argument("--em", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="another setting")
    parser.add_argument("--name", default="EM", help="of a line with such settings")
    parser.add_argument("--batch", type=int, default=128, help="draws and digits in each step of finetuning")
    parser.add_argument("--kernel", choices=["log", "energy"], default="log")
    parser.add_argument("--rule", choices=["DDIM", "multistep"], default="DDIM", help="of the walk that is finetuned")
    parser.add_argument("--seed", type=int, default=0, help="of finetuning")
    parser.add_argument("--walk-name", help="of the line")
    parser.add_argument("--rate", type=float, default=3e-4, help="of finetuning")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    bench = Bench(args.folder, Prior.load(args.folder), args.folder / "distilled.jsonl")
    if args.part == "pairs":
        make_pairs(bench)
    elif args.part == "student":
        changes = {name: json.loads(value) for name, value in args.em}
        make_student(bench, args.seconds, args.em_seconds, replace(EM, **changes), args.name)
    elif args.part == "walk":
        sizes = {"batch_size": args.batch, "learning_rate": args.rate}
        name = args.walk_name or f"{args.rule} finetuned, 5 calls, seed {args.seed}"
        make_walk(bench, args.seconds, MMDSettings(**sizes), WalkPlan(args.rule, args.kernel, args.seed, name))
    if args.figure:
        draw_figure(bench, args.figure)


if __name__ == "__main__":
    main()
