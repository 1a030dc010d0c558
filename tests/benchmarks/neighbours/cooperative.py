"""Cooperative recovery likelihood (CDRL) on MNIST of 14 x 14 or 28 x 28 pixels, and plain recovery likelihood (DRL).

    python -m tests.benchmarks.neighbours.cooperative FOLDER start --start FOLDER/prior.safetensors
    python -m tests.benchmarks.neighbours.cooperative FOLDER train cdrl --start FOLDER/prior.safetensors --seconds 60
    python -m tests.benchmarks.neighbours.cooperative FOLDER train "two noises" --start FOLDER/prior.safetensors
    python -m tests.benchmarks.neighbours.cooperative FOLDER variance cdrl_60
    python -m tests.benchmarks.neighbours.cooperative FOLDER averages cdrl_60 --count 200
    python -m tests.benchmarks.neighbours.cooperative FOLDER figure NAMES --figure docs/images/cooperative_digits.png
    python -m tests.benchmarks.neighbours.cooperative FOLDER classifier --digits mnist.npz

``classifier`` copies digits of another size into the folder and trains their classifier; ``--start`` is then a file that
larger_prior.py wrote for "digits of many levels", and the sizes of base and network follow from it. Else the folder holds
the digits, the classifier and the weights of prior.py, whose base and U-Net every arm has, at six noise levels. ``start``
judges the base and those weights, ``train`` takes so many seconds of the processor beyond them, or beyond the base alone
without ``--start``, then draws, judges and saves the averaged weights. Calls are network evaluations of one draw: K
gradients a level and, with an initialiser, one proposal; the last denoising step counts too. Draws are judged beside 400
test digits as in few_steps.py. Lines go to ``cooperative.jsonl`` there, and draws to ``cooperative_pictures.pt``.
``averages`` compares frequency averages as few_steps.py does, on the weights of a file; their lines go to
``few_steps_NAME.jsonl``. ``--seed`` changes the batches, the initialiser's first weights and the noise of the draws.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import drl_density as drl
from drl_density.bases import FactorAnalysers
from drl_density.execution import precision
from drl_density.mcmc import MALA
from drl_density.networks import UNet, UNetEnergy, UNetSettings
from drl_density.sample_quality import classifier_features
from drl_density.samplers import DDIMSettings, ShortRunSettings, sample_ddim, sample_short_run
from drl_density.training import (
    CooperativeRecovery,
    LangevinChains,
    LangevinRecovery,
    Objective,
)
from drl_density.training.objectives.objective import ObjectiveValue
from tests.benchmarks.neighbours.few_steps import Judge, averages, new_figure
from tests.benchmarks.neighbours.larger_prior import PROBLEMS
from tests.benchmarks.neighbours.prior import (
    BASE,
    LOW,
    SIDE,
    SIZES,
    Prior,
    factor_analysers,
    fit_classifier,
    new_model as new_prior,
    to_grey,
    to_rows,
    unfitted_base,
)

LEVELS, FACTOR, STEPS = 6, 0.4, 2
BATCH, RATE = 32, 5e-4
CHAINS = LangevinChains(num_steps=STEPS, factor=FACTOR, weights="nats", scaling="conditional", kernel=MALA())
LARGER = PROBLEMS["digits of many levels"]
NETWORKS, BASES = {SIDE: SIZES, 28: LARGER.network}, {SIDE: BASE, 28: LARGER.base}
INITIALIZER = UNetSettings(
    (1, SIDE, SIDE),  # and of other sizes for other digits
    num_channels=16,
    multipliers=(1, 1),
    num_blocks=1,
    attention_sizes=(),
    dropout=0.0,
    num_classes=10,
    starts_at_base=True,
)


@dataclass(frozen=True)
class Arm:
    """An objective, its initialiser if it has one, and the steps a level of the draws."""

    objective: Objective
    initializer: UNetSettings | None = None
    draws: tuple[int, ...] = ()


ARMS: dict[str, Arm] = {
    "cdrl": Arm(CooperativeRecovery(CHAINS), INITIALIZER, (0, 2, 6)),
    "two noises": Arm(CooperativeRecovery(CHAINS, shares_noise=False), INITIALIZER, (0, 2, 6)),
    "no initialiser": Arm(LangevinRecovery(CHAINS, shares_noise=True), None, (2, 6)),
    "not from the base": Arm(CooperativeRecovery(CHAINS), replace(INITIALIZER, starts_at_base=False), (0, 2, 6)),
    "drl": Arm(LangevinRecovery(replace(CHAINS, num_steps=30)), None, (30,)),
}


def new_model(base: FactorAnalysers, initializer: UNetSettings | None, seed: int = 0) -> drl.EnergySequence:
    """The sequence before training; labels, which only labels.py learns, begin without effect."""
    generator = torch.Generator().manual_seed(seed)
    width = base.means.shape[1]
    side = math.isqrt(width)
    if initializer is not None:
        initializer = replace(initializer, image_shape=(1, side, side))
    energy = UNetEnergy(replace(NETWORKS[side], num_classes=10), generator=generator).to(memory_format=torch.channels_last)
    start = (
        None if initializer is None else UNet(initializer, generator=generator).to(memory_format=torch.channels_last)
    )
    for network in (energy, start):
        if network is not None:
            nn.init.zeros_(network.embed_label.weight)
    schedule = drl.NoiseSchedule.log_spaced(LEVELS, sigma_min=0.05, sigma_max=0.999)
    return drl.EnergySequence(schedule, energy, (width,), base=base, initializer=start)


def matched(path: Path, initializer: UNetSettings | None, seed: int = 0) -> drl.EnergySequence:
    """The sequence at weights that prior.py trained by score matching, without labels, at more levels."""
    saved = load_file(path)
    model = new_model(base_like(saved), initializer, seed)
    saved = {key: value for key, value in saved.items() if key.startswith(("base.", "network."))}
    missing, unexpected = model.load_state_dict(saved, strict=False)
    kept = ("initializer.", "constants.", "schedule.", "network.embed_label.")
    assert not unexpected, unexpected
    assert all(name.startswith(kept) for name in missing), missing
    return model


def base_like(saved: dict[str, Tensor]) -> FactorAnalysers:
    """A base for these saved weights."""
    width = saved["base.means"].shape[1]
    return unfitted_base(BASES[math.isqrt(width)], width)


class Averaged:
    """Means of weights over the last steps, a few hundred of them."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        self.weights, self.means, self.count = weights, [weight.detach().clone() for weight in weights], 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights in."""
        torch._foreach_lerp_(self.means, self.weights, max(1 / (1 + self.count / 4), 2e-3))
        self.count += 1

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights with their means."""
        now = [weight.detach().clone() for weight in self.weights]
        torch._foreach_copy_(self.weights, self.means)
        self.means = now


def shorten(weights: list[nn.Parameter], norms: deque[float]) -> None:
    """Shorten gradients to twice the median of these norms, and add their own norm."""
    usual = 2 * median(norms) if norms else math.inf
    norms.append(float(nn.utils.clip_grad_norm_(weights, usual)))


class Training:
    """Training for seconds of the processor, whose rate falls over the last third of ``planned`` seconds."""

    def __init__(self, model: drl.EnergySequence, data: drl.Dataset, planned: float, seed: int = 0) -> None:
        self.model, self.data, self.planned = model, data, planned
        self.parts = [model.network] + ([model.initializer] if model.initializer is not None else [])
        self.average = Averaged([weight for part in self.parts for weight in part.parameters()])
        self.optimizer = torch.optim.AdamW(self.average.weights, betas=(0.9, 0.99), weight_decay=1e-3)
        self.generator, self.seconds, self.steps = torch.Generator().manual_seed(1 + seed), 0.0, 0

    def rows(self, chosen: Tensor) -> Tensor:
        """Dequantised training rows."""
        return to_rows(self.data.train[chosen], self.generator)

    def evaluate(self, objective: Objective) -> ObjectiveValue:
        """The objective on a batch."""
        rows = self.rows(torch.randint(len(self.data.train), (BATCH,), generator=self.generator))
        with precision(self.model, LOW):
            return objective(self.model, rows, torch.ones(LEVELS), generator=self.generator)

    def run(self, objective: Objective, until: float, rate: float) -> None:
        """Train in place until so many seconds."""
        optimizer, shown = self.optimizer, []
        began = time.process_time() - self.seconds
        while self.seconds < until:
            for group in optimizer.param_groups:
                left = min(1.0, 3 * (1 - self.seconds / self.planned))
                group["lr"] = rate * min(1, (self.steps + 1) / 100) * max(0.02, left)
            optimizer.zero_grad()
            value = self.evaluate(objective)
            value.loss.backward()
            for part in self.parts:  # the losses of energy and initialiser differ in scale
                nn.utils.clip_grad_norm_(part.parameters(), 100.0)
            optimizer.step()
            self.average.update()
            self.steps += 1
            found = value.statistics
            shown.append(
                [float(part.nanmean()) for part in (value.loss.detach(), found.energy_gap, found.acceptance_rate)]
            )
            self.seconds = time.process_time() - began
            if self.steps % 100 == 0:  # gaps that grow without end are the sign of divergence
                means = ", ".join(f"{mean:.2f}" for mean in torch.tensor(shown[-100:]).nanmean(0).tolist())
                print(f"{self.seconds:.0f} s, step {self.steps}: loss, gap, acceptance {means}", flush=True)


def short_run(model: drl.EnergySequence, steps: int, count: int, seed: int = 0) -> Tensor:
    """Denoised draws by so many steps a level."""
    settings = ShortRunSettings(replace(CHAINS, num_steps=steps), is_denoised=True, max_rows=200)
    generator = torch.Generator().manual_seed(2 + seed)
    return sample_short_run(model, count, settings=settings, generator=generator).draws


class Sheet:
    """Judges draws, writes a line for each, and keeps the first ones for the figure."""

    def __init__(self, folder: Path, count: int) -> None:
        data = drl.load_dataset(str(folder / "data.npz"), seed=0)
        self.data, self.folder, self.count = data, folder, count
        look = classifier_features(folder / "classifier.safetensors")
        self.judge = Judge(Prior(new_prior(unfitted_base()), data, look), count, folder / "cooperative.jsonl")

    def add(
        self,
        arm: str,
        rule: str,
        calls: int,
        rows: Tensor,
        seconds: float,
        trained: float,
        steps: int,
        right: float | None = None,
    ) -> None:
        """Judge draws of a model trained for so many seconds."""
        extra = {"trained": trained, "training_steps": steps, "right_label": right}
        self.judge.line("cooperative", arm, rule, calls, rows, seconds, extra)
        path = self.folder / "cooperative_pictures.pt"
        pictures = torch.load(path) if path.exists() else {}
        pictures[f"{arm}, {rule}, {trained:.0f} s"] = to_grey(rows[:24])
        torch.save(pictures, path)

    def draw(
        self, name: str, model: drl.EnergySequence, chosen: tuple[int, ...], trained: float, steps: int, seed: int = 0
    ) -> None:
        """Judge short-run draws of a model."""
        has_initializer = model.initializer is not None
        for number in chosen:
            began, calls = time.process_time(), LEVELS * (number + has_initializer) + 1
            rows = short_run(model, number, self.count, seed)
            self.add(name, f"K = {number}", calls, rows, time.process_time() - began, trained, steps)


def save(model: drl.EnergySequence, path: Path) -> None:
    """Write the weights."""
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)


def load_named(folder: Path, name: str) -> drl.EnergySequence:
    """The sequence of a file of :func:`save` without its ending."""
    saved = load_file(folder / f"{name}.safetensors")
    has_initializer = any(key.startswith("initializer.") for key in saved)
    model = new_model(base_like(saved), INITIALIZER if has_initializer else None)
    model.load_state_dict(saved)
    return model


def fit(sheet: Sheet, name: str, args: argparse.Namespace) -> None:
    """Train an arm from the weights of ``args.start`` or from the base alone; judge at the snapshots and at the end."""
    arm = ARMS[name]
    if args.start:
        model = matched(args.start, arm.initializer, args.seed)
    else:
        rows = to_rows(sheet.data.train, torch.Generator().manual_seed(0))
        base = factor_analysers(rows, BASES[math.isqrt(rows.shape[1])])
        model = new_model(base, arm.initializer, args.seed)
    training = Training(model, sheet.data, args.planned or args.seconds, args.seed)
    label = (name if args.start else f"{name}, from the base") + (f", seed {args.seed}" if args.seed else "")
    for until in [*args.snapshot, args.seconds]:
        training.run(arm.objective, until, args.rate)
        training.average.swap()
        save(model, sheet.folder / f"{label.replace(', ', '_').replace(' ', '_')}_{until:.0f}.safetensors")
        sheet.draw(label, model, arm.draws, until, training.steps, args.seed)
        training.average.swap()


def gradient_variance(sheet: Sheet, name: str, num_batches: int = 40) -> None:
    """Variance of the energy's gradient over batches, with one noise for both states of a pair and with two.

    Both kinds see the same digits. Errors are those of the mean over halves of the batches.
    """
    model = load_named(sheet.folder, name)
    weights = list(model.network.parameters())
    found: dict[bool, Tensor] = {}
    for shares_noise in (True, False):
        objective = CooperativeRecovery(CHAINS, shares_noise=shares_noise, initializer_weight=0.0)
        training, gradients = Training(model, sheet.data, 1.0), []
        for index in range(num_batches):
            training.generator.manual_seed(100 + index)
            rows = training.rows(torch.randint(len(training.data.train), (BATCH,), generator=training.generator))
            loss = objective(model, rows, torch.ones(LEVELS), generator=training.generator).loss
            parts = torch.autograd.grad(loss, weights, allow_unused=True)
            gradients.append(torch.cat([part.flatten() for part in parts if part is not None]))
        found[shares_noise] = torch.stack(gradients).double()
    for shares_noise, gradients in found.items():
        deviations = (gradients - gradients.mean(0)).square().sum(1) * num_batches / (num_batches - 1)
        # Of the squared norm of the mean, the mean's own variance is taken off.
        squared = gradients.mean(0).square().sum() - deviations.mean() / num_batches
        line = {
            "part": "variance",
            "model": name,
            "shares_noise": shares_noise,
            "variance": float(deviations.mean()),
            "error": float(deviations.std() / num_batches**0.5),
            "squared_mean": float(squared),
        }
        with sheet.judge.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def draw(path: Path, folder: Path, names: list[str]) -> None:
    """A row of draws for each name of the pictures kept."""
    pictures = torch.load(folder / "cooperative_pictures.pt")
    figure = new_figure(6.4, 0.62 * len(names))
    for axis, name in zip(figure.subplots(len(names), 1), names, strict=True):
        side = pictures[name].shape[-1]
        tiles = pictures[name][:20, 0].permute(1, 0, 2).reshape(side, 20 * side)
        axis.imshow(tiles.numpy(), cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(name, fontsize=8, pad=2)
        axis.set_axis_off()
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    """Train, draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of prior.py")
    parser.add_argument("part", choices=["classifier", "start", "train", "variance", "averages", "figure"])
    parser.add_argument("what", nargs="*", help="the arm to train, a file without its ending, or rows of the figure")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--planned", type=float, help="seconds over which the rate falls, where training stops earlier")
    parser.add_argument("--snapshot", type=float, nargs="*", default=[])
    parser.add_argument("--start", type=Path, help="weights of prior.py to start from")
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--error", type=float, default=0.0, help="of the estimates of averages, as in few_steps.py")
    parser.add_argument("--rules", nargs="*", default=["plain", "Haar", "matched", "calibrated"], help="of the averages")
    parser.add_argument("--digits", type=Path, help="MNIST as .npz, for the classifier")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--count", type=int, default=400)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.part == "figure":
        draw(args.figure, args.folder, args.what)
        return
    if args.part == "classifier":
        args.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(args.digits, args.folder / "data.npz")
        data = drl.load_dataset(str(args.folder / "data.npz"), seed=0)
        share = fit_classifier(data, args.folder / "classifier.safetensors", torch.Generator().manual_seed(0))
        print(f"classifier: test accuracy {share:.4f}")
        return
    sheet, began = Sheet(args.folder, args.count), time.process_time()
    if args.part == "start":
        model = matched(args.start, INITIALIZER)
        assert model.base is not None
        rows = model.base.sample(args.count, generator=torch.Generator().manual_seed(2))
        sheet.add("base", "exact draws", 0, rows, 0.0, 0.0, 0)
        sheet.draw("score matching", model, (STEPS,), 0.0, 0)
        for eta in (0.0, 1.0):
            settings = DDIMSettings(num_steps=LEVELS * (STEPS + 1), eta=eta, is_denoised=True)
            generator, began_walk = torch.Generator().manual_seed(2), time.process_time()
            rows = sample_ddim(matched(args.start, None), args.count, settings=settings, generator=generator).draws
            name = "DDIM" if eta == 0 else "DDIM, ancestral"
            sheet.add("score matching", name, 19, rows, time.process_time() - began_walk, 0.0, 0)
    elif args.part == "train":
        fit(sheet, args.what[0], args)
    elif args.part == "variance":
        gradient_variance(sheet, args.what[0])
    elif args.part == "averages":
        sheet.judge.out = args.folder / f"few_steps_{args.what[0]}.jsonl"
        prior = Prior(load_named(args.folder, args.what[0]).requires_grad_(False), sheet.data, sheet.judge.look)
        averages(prior, sheet.judge, args.count, args.rules, args.error)
    print(f"{time.process_time() - began:.0f} s of the processor")


if __name__ == "__main__":
    main()
